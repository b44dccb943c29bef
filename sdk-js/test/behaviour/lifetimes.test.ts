/**
 * What shows only after a while, against the gateway: tokens are renewed, pings are answered. All of it at
 * the same time, and with lives so long that a machine may stand still for some seconds in the middle of one.
 */

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { Client, type ClientOptions, type ClientState } from '../../src/index.js';
import { protobuf } from '../../src/protobuf.js';
import { Seen } from '../support/seen.js';
import { startGateway, watchedSocket, type Server } from '../support/server.js';
import { unique } from './scenarios.js';

/** Seconds a token lives. A token is made for whole seconds, so one of them may be over by then. */
const TTL = 6;
/** Seven seconds and more are left to renew one, and without that all is over before the fourth is asked for. */
const EXPIRY = { expired_close_delay: '8s', expired_sub_close_delay: '8s', presence_update_interval: '1s' };
/** Milliseconds for three lives of a token, or as many pings, on a machine that is busy. */
const THREE = 45_000;
/** A client has nearly five seconds for its answer, and the second ping comes after the first is overdue. */
const PINGS = { ping_interval: '5s', pong_timeout: '4900ms' };

const CODECS = [
  { name: 'JSON', options: {}, pong: /^\{\}$/ },
  // An empty message.
  { name: 'Protobuf', options: { codec: protobuf }, pong: /^\0$/ },
];

async function connected(server: Server, options: ClientOptions): Promise<{ client: Client; id: string }> {
  const client = (await server.way()).client(options).connect();
  await client.ready();
  return { client, id: idOf(client) };
}

/** What the server calls the connection that stands now. */
function idOf({ state }: Client): string {
  return state.name === 'connected' ? state.client : state.name;
}

function statesOf(client: Client): Seen<ClientState['name']> {
  return new Seen('state', (add) => client.on('state', ({ name }) => add(name)));
}

describe('a token lives for a while, and', { concurrent: true }, () => {
  let server: Server;
  beforeAll(async () => {
    server = await startGateway(EXPIRY);
  });
  afterAll(async () => {
    await server.sweep();
    await server.stop();
  });

  test.each(CODECS)('a refreshed one keeps the same connection past its first life, $name', async ({ options }) => {
    let add: (count: number) => void = () => undefined;
    const asked = new Seen<number>('token', (heard) => void (add = heard));
    const getToken = (): string => {
      add(asked.items.length + 1);
      return server.token('anna', { ttl: TTL });
    };
    const { client, id } = await connected(server, { ...options, getToken });
    const states = statesOf(client);
    await asked.count(4, THREE);
    await client.publish(unique(), 'still here');
    expect([idOf(client), states.items]).toEqual([id, []]);
  });

  test.each(CODECS)('one for a subscription is refreshed while subscribed, $name', async ({ options }) => {
    let add: (channel: string) => void = () => undefined;
    const asked = new Seen<string>('token', (heard) => void (add = heard));
    const getToken = (channel: string): string => {
      add(channel);
      return server.subscriptionToken('anna', channel, { ttl: TTL });
    };
    const { client } = await connected(server, { ...options, token: server.token('anna') });
    const sub = client.subscription(unique('closed'), { getToken }).subscribe();
    await sub.ready();
    const states = new Seen('state', (seen) => sub.on('state', seen));
    await asked.count(4, THREE);
    await client.publish(unique(), 'still here');
    expect(new Set(asked.items)).toEqual(new Set([sub.channel]));
    expect([sub.state.name, states.items]).toEqual(['subscribed', []]);
  });
});

describe('pings', { concurrent: true }, () => {
  let server: Server;
  beforeAll(async () => {
    server = await startGateway(PINGS);
  });
  afterAll(async () => {
    await server.sweep();
    await server.stop();
  });

  test.each(CODECS)('are answered, so a quiet connection stays, $name', async ({ options, pong }) => {
    const wire = watchedSocket();
    const { client, id } = await connected(server, { ...options, token: server.token('anna'), websocket: wire.websocket });
    const states = statesOf(client);
    // The third comes after an unanswered first would have ended the connection.
    await wire.sent(pong).count(3, THREE);
    expect([idOf(client), states.items]).toEqual([id, []]);
  });
});
