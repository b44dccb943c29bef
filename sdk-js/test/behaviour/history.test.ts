/** Pages of the archive, joined with what comes live, from the gateway's own service. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import { ChannelHistory, type ChannelHistoryOptions } from '../../src/history.js';
import type { Client, Subscription } from '../../src/index.js';
import { Seen } from '../support/seen.js';
import { startGateway, type Server, type Way } from '../support/server.js';
import { away, numbers, publishNumbers, subscriptions, unique } from './scenarios.js';

/** Far fewer than are published: whatever is older comes from the archive alone. */
const AT_HAND = 5;
/** Milliseconds for hundreds of requests on a busy machine. */
const LONG = 120_000;

const archived = {
  history_archive: true,
  history_size: AT_HAND,
  history_ttl: '60s',
  force_recovery: true,
  allow_history_for_client: true,
};
const NAMESPACES = [
  { name: 'long', ...archived },
  { name: 'subscribers', ...archived, allow_history_for_client: false, allow_history_for_subscriber: true },
  { name: 'short', history_size: AT_HAND, history_ttl: '60s', force_recovery: true },
];

describe('pages of the archive', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startGateway({}, undefined, NAMESPACES);
  });
  afterEach(() => server.sweep());
  afterAll(() => server.stop());

  /** What a page of a chat does: the past goes in front of what it shows, and what comes live behind. */
  async function reader(channel: string, options: Partial<ChannelHistoryOptions> = {}): Promise<Reader> {
    const way = await server.way();
    const client = way.client({ token: server.token('anna') }).connect();
    const sub = client.subscription(channel);
    const shown: unknown[] = [];
    const live = new Seen('publication', (add) =>
      sub.on('publication', ({ data }) => {
        shown.push(data);
        add(data);
      }),
    );
    const url = `http://127.0.0.1:${server.port}/history`;
    const history = new ChannelHistory(sub, { url, getToken: () => server.token('anna'), limit: 7, ...options });
    await sub.subscribe().ready();
    const older = async (): Promise<boolean> => {
      const { messages, done } = await history.page();
      shown.unshift(...messages.map(({ data }) => data));
      return done;
    };
    return { way, client, sub, shown, live, history, older };
  }

  interface Reader {
    way: Way;
    client: Client;
    sub: Subscription;
    shown: unknown[];
    live: Seen<unknown>;
    history: ChannelHistory;
    /** Shows one page more; whether it was the last. */
    older: () => Promise<boolean>;
  }

  test.each([1, 2, 3])('join with what comes meanwhile, over lost connections too (%i)', { timeout: LONG }, async (seed) => {
    let state = seed * 7919;
    const random = (below: number): number => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) % below;
    const channel = unique('long');
    let published = 60;
    await publishNumbers(server, channel, 1, published);
    const some = (): Promise<void> => publishNumbers(server, channel, published + 1, (published += 1 + random(8)));
    const { way, client, sub, shown, live, older } = await reader(channel, { limit: 3 + random(9) });
    const again = subscriptions(sub);
    let cuts = 0;
    for (let done = false; !done; ) {
      if (random(3) === 0) {
        cuts += 1;
        await sub.ready();
        await away(way, client, some);
      }
      const [page] = await Promise.all([older(), some()]);
      done = page;
    }
    await again.count(cuts);
    await live.count(published - 60);
    expect(shown).toEqual(numbers(1, published));
    expect(again.items.every(({ recovered }) => recovered)).toBe(true);
    expect(await older()).toBe(true);
  });

  test('go on after the gateway was restarted', { timeout: LONG }, async () => {
    const own = await startGateway({}, undefined, NAMESPACES);
    const shared = server;
    server = own;
    try {
      const channel = unique('long');
      await publishNumbers(own, channel, 1, 30);
      const { sub, shown, live, older } = await reader(channel);
      const again = subscriptions(sub);
      await older();
      await own.restart();
      await again.count(1);
      await publishNumbers(own, channel, 31, 33);
      await live.count(3);
      while (!(await older()));
      expect(shown).toEqual(numbers(1, 33));
      await own.sweep();
    } finally {
      server = shared;
      await own.stop();
    }
  });

  test('tell of each message what the service knows', async () => {
    const channel = unique('long');
    await publishNumbers(server, channel, 1, 2);
    const { history, sub } = await reader(channel);
    const { messages, done } = await history.page();
    const { epoch } = sub.position!;
    expect(done).toBe(true);
    expect(messages).toMatchObject([
      { channel, epoch, offset: 1, data: 1, prev: undefined },
      { channel, epoch, offset: 2, data: 2, prev: messages[0]!.id },
    ]);
    expect(Math.abs(messages[1]!.time - Date.now())).toBeLessThan(60_000);
  });

  test('of a channel without messages are one, and what comes then is live', async () => {
    const { sub, shown, live, older } = await reader(unique('long'));
    expect(await older()).toBe(true);
    await publishNumbers(server, sub.channel, 1, 3);
    await live.count(3);
    expect([await older(), shown]).toEqual([true, [1, 2, 3]]);
  });

  test('are for those who may read them', async () => {
    const channel = unique('subscribers');
    await publishNumbers(server, channel, 1, 1);
    const { history } = await reader(channel);
    await expect(history.page()).rejects.toMatchObject({ code: 403, temporary: false });
    const headers = { 'X-Subscription-Token': server.subscriptionToken('anna', channel) };
    const { older } = await reader(channel, { headers });
    expect(await older()).toBe(true);
    const { history: nowhere } = await reader(unique('short'));
    await expect(nowhere.page()).rejects.toMatchObject({ code: 404, temporary: false });
    const { history: unknown } = await reader(unique('long'), { getToken: () => 'no token' });
    await expect(unknown.page()).rejects.toMatchObject({ code: 401, temporary: false });
  });
});
