/** The outbox against the gateway, over a line that breaks at the worst moment. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import { Outbox, memoryStore, type OutboxMessage } from '../../src/outbox.js';
import { Cutter } from '../support/cutter.js';
import { Seen } from '../support/seen.js';
import { impatientClient, startGateway, type Server } from '../support/server.js';
import { numbers, unique } from './scenarios.js';

const CUTS = 200;
/** Milliseconds for some 400 connections on a busy machine. */
const PATIENCE = 150_000;

describe('the line is cut after the publish and before its reply', () => {
  let server: Server;
  let cutter: Cutter;
  beforeAll(async () => {
    server = await startGateway({ insecure: true });
  });
  afterEach(async () => {
    await server.sweep();
    await cutter.close();
  });
  afterAll(() => server.stop());

  /** Sends messages, every one of which is published at least twice, and gives what history holds. */
  async function troubled(token: string, count: number): Promise<{ sent: OutboxMessage[]; held: unknown[] }> {
    let reply = 0;
    // The first reply to each is lost: an attempt that is answered is followed by the next message.
    cutter = await Cutter.to(server.port, '"publish":{', () => reply++ % 2 === 0);
    const client = impatientClient(cutter.endpoint, { token, minReconnectDelay: 1, maxReconnectDelay: 5 });
    const outbox = new Outbox(client.connect(), { store: memoryStore(), minRetryDelay: 1, maxRetryDelay: 5 });
    const seen = new Seen<OutboxMessage>('sent', (add) =>
      outbox.on('message', (message) => message.state === 'sent' && add(message)),
    );
    const channel = unique();
    await Promise.all(numbers(1, count).map((n) => outbox.send(channel, n)));
    const sent = [...(await seen.count(count, PATIENCE))];
    client.close();
    return { sent, held: await server.history(channel) };
  }

  test(`${CUTS} times: history holds each message once and in order`, { timeout: PATIENCE }, async () => {
    const { sent, held } = await troubled(server.token('ada'), CUTS);
    expect(cutter.cuts).toBe(CUTS);
    expect(held).toEqual(numbers(1, CUTS));
    expect(new Set(sent.map(({ delivery }) => delivery))).toEqual(new Set(['exactly once']));
  });

  test('of anonymous users nothing is lost, and what may be double says so', async () => {
    const { sent, held } = await troubled('', 5);
    expect(held).toEqual([1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
    expect(sent.every(({ delivery }) => delivery === 'at least once')).toBe(true);
  });
});
