/** The outbox, against the server that applications test with. */

import 'fake-indexeddb/auto';

import { afterEach, describe, expect, test, vi } from 'vitest';

import { BobolinkError, Client, type ClientOptions } from '../src/index.js';
import { indexedDBStore, memoryStore, Outbox, type OutboxMessage, type OutboxOptions, type OutboxStore } from '../src/outbox.js';
import { FakeServer, type FakeServerOptions } from '../src/testing.js';
import { ManualClock, settled } from './support/clock.js';
import { PATIENCE, Seen } from './support/seen.js';
import { soon } from './support/soon.js';
import { FakeBrowser } from './support/tabs.js';

const cleanup: (() => void)[] = [];
afterEach(() => cleanup.splice(0).forEach((run) => run()));

function connect(server: FakeServer, options: ClientOptions = {}): Client {
  const client = new Client('ws://fake', { transport: server.transport, token: 'ada', minReconnectDelay: 1, maxReconnectDelay: 1, ...options });
  cleanup.push(() => client.close());
  return client.connect();
}

interface Setting {
  server: FakeServer;
  client: Client;
  outbox: Outbox;
  /** `state data` of every message event. */
  seen: Seen<string>;
}

function set(options: OutboxOptions = {}, serverOptions: FakeServerOptions = {}, clientOptions: ClientOptions = {}): Setting {
  const server = new FakeServer(serverOptions);
  const client = connect(server, clientOptions);
  return { server, client, ...outboxOf(client, options) };
}

function outboxOf(client: Client, options: OutboxOptions = {}): { outbox: Outbox; seen: Seen<string> } {
  const outbox = new Outbox(client, { store: memoryStore(), minRetryDelay: 1, maxRetryDelay: 1, ...options });
  cleanup.push(() => outbox.close());
  const seen = new Seen<string>('message', (add) => outbox.on('message', ({ state, data }) => add(`${state} ${String(data)}`)));
  return { outbox, seen };
}

function sent({ outbox }: Setting): Seen<OutboxMessage> {
  return new Seen('sent', (add) => outbox.on('message', (message) => message.state === 'sent' && add(message)));
}

async function history(server: FakeServer, channel = 'a'): Promise<unknown[]> {
  const client = connect(server);
  const { publications } = await client.history(channel, { limit: -1 });
  return publications.map(({ data }) => data);
}

describe('sending', () => {
  test('what is sent offline is published in order once there is a connection', async () => {
    const setting = set();
    const { server, client, outbox, seen } = setting;
    client.disconnect();
    for (const n of [1, 2, 3]) await outbox.send('a', n);
    expect(outbox.messages.map(({ state, data }) => [state, data])).toEqual([['queued', 1], ['queued', 2], ['queued', 3]]);
    expect(outbox.delivery).toBeUndefined();
    client.connect();
    await seen.count(6);
    expect(seen.items.slice(3)).toEqual(['sent 1', 'sent 2', 'sent 3']);
    expect(await history(server)).toEqual([1, 2, 3]);
    expect([outbox.messages, outbox.delivery]).toEqual([[], 'exactly once']);
  });

  test('what is kept from before goes first, however long the store takes to tell', async () => {
    const store = memoryStore();
    await store.add({ id: 'k', channel: 'a', data: 'old', at: 1 });
    let read: () => void = () => undefined;
    const gate = new Promise<void>((resolve) => (read = resolve));
    const slow = { ...store, load: () => gate.then(() => store.load()) };
    const { outbox, server, client, seen } = set({ store: slow });
    await client.ready();
    await outbox.send('a', 'new');
    await settled();
    expect(server.history('a')).toEqual([]);
    read();
    await soon(() => expect(seen.items).toContain('sent new'));
    expect(await history(server)).toEqual(['old', 'new']);
  });

  test('channels do not wait for each other', async () => {
    const { outbox, server } = set({}, {}, { timeout: 60_000 });
    const real = server.isRepeat.bind(server);
    server.isRepeat = (user, channel, key) => {
      if (channel === 'stuck') throw new BobolinkError(100, 'internal server error', true);
      return real(user, channel, key);
    };
    const done = new Seen<string>('sent', (add) => outbox.on('message', ({ state, channel }) => state === 'sent' && add(channel)));
    await outbox.send('stuck', 1);
    await outbox.send('free', 1);
    expect(await done.count(1)).toEqual(['free']);
  });

  test('a temporary failure keeps the order and does not publish twice', async () => {
    const { outbox, server, seen } = set();
    let failures = 3;
    const real = server.isRepeat.bind(server);
    server.isRepeat = (...args) => {
      if (failures-- > 0) throw new BobolinkError(100, 'internal server error', true);
      return real(...args);
    };
    const errors = new Seen('error', (add) => outbox.on('error', ({ code }) => add(code)));
    await Promise.all([outbox.send('a', 1), outbox.send('a', 2)]);
    await seen.count(4);
    expect(await history(server)).toEqual([1, 2]);
    expect(errors.items).toEqual([100, 100, 100]);
  });

  test('retries back off with full jitter, and start anew with the next message', async () => {
    const clock = new ManualClock();
    const { outbox, server, client, seen } = set({ clock, random: () => 0.5, minRetryDelay: 100, maxRetryDelay: 250 });
    await client.ready();
    const real = server.isRepeat.bind(server);
    server.isRepeat = () => {
      throw new BobolinkError(100, 'internal server error', true);
    };
    await outbox.send('a', 1);
    for (const ms of [50, 100, 125, 125]) {
      await soon(() => expect(clock.pending).toEqual([ms]));
      await clock.advance(ms);
    }
    await soon(() => expect(clock.pending).toEqual([125]));
    server.isRepeat = real;
    await clock.advance(125);
    await seen.count(2);
    expect(clock.pending).toEqual([]);
  });

  test('what is refused for good is told, waits for a decision, and lets the next one pass', async () => {
    const { outbox, server, seen } = set();
    const real = server.isRepeat.bind(server);
    server.isRepeat = (user, channel, key) => {
      if (outbox.messages[0]?.id === key) throw new BobolinkError(103, 'permission denied');
      return real(user, channel, key);
    };
    await outbox.send('a', 'bad');
    await seen.count(2);
    await outbox.send('a', 'good');
    await seen.count(4);
    expect(seen.items).toEqual(['queued bad', 'failed bad', 'queued good', 'sent good']);
    const [failed] = outbox.messages;
    expect(failed).toMatchObject({ state: 'failed', error: { code: 103, message: 'permission denied' } });
    server.isRepeat = real;
    await outbox.retry(failed!.id);
    await seen.count(6);
    expect(await history(server)).toEqual(['good', 'bad']);
  });

  test('a failed message can be given up', async () => {
    const { outbox, seen, client } = set();
    client.disconnect();
    const { id } = await outbox.send('a', 1);
    await outbox.remove(id);
    await outbox.remove('unknown');
    expect(outbox.messages).toEqual([]);
    client.connect();
    await outbox.send('a', 2);
    await seen.count(3);
    expect(seen.items).toEqual(['queued 1', 'queued 2', 'sent 2']);
  });

  test.each(['in this tab', 'in another tab'])('what is given up %s while it is on its way does not come back when it is refused', async (where) => {
    const [browser, kept, server] = [new FakeBrowser(), memoryStore(), new FakeServer()];
    const store = { ...kept, close: () => undefined };
    const options = (): OutboxOptions => ({ store, tabs: browser.tab().means });
    const client = connect(server);
    const { outbox, seen } = outboxOf(client, options());
    const other = where === 'in this tab' ? outbox : outboxOf(client, options()).outbox;
    await client.ready();
    let refuse: () => void = () => undefined;
    const publish = vi.fn(() => new Promise<void>((_, reject) => (refuse = () => reject(new BobolinkError(103, 'permission denied')))));
    client.publish = publish;
    const { id } = await outbox.send('a', 1);
    await soon(() => expect(publish).toHaveBeenCalled());
    await soon(() => expect(other.messages).toHaveLength(1));
    const removed = other.remove(id);
    refuse();
    await removed;
    await soon(() => expect(outbox.messages).toEqual([]));
    await vi.waitFor(async () => expect(await kept.load()).toEqual([]), { timeout: PATIENCE });
    client.publish = () => Promise.resolve();
    await outbox.send('a', 2);
    await soon(() => expect(seen.items).toContain('sent 2'));
    expect([await kept.load(), outbox.messages, other.messages]).toEqual([[], [], []]);
  });

  test('more than the limit, too large and unwritable messages are refused at once', async () => {
    const { outbox, client } = set({ limit: 2, maxSize: 10 });
    client.disconnect();
    await Promise.all([outbox.send('a', 1), outbox.send('a', 2)]);
    await expect(outbox.send('a', 3)).rejects.toMatchObject({ code: 20, temporary: true });
    await expect(outbox.send('a', 'üüüüü')).rejects.toMatchObject({ code: 21 });
    await expect(outbox.send('a', 1n)).rejects.toMatchObject({ code: 21 });
    expect(outbox.messages).toHaveLength(2);
  });

  test('the message that breaks the server\'s size limit fails, and no other', async () => {
    const server = new FakeServer();
    const client = connect(server);
    server.isRepeat = (_user, channel) => {
      if (channel === 'big') server.disconnect(1009, 'too big');
      throw new BobolinkError(100, 'internal server error', true);
    };
    const { outbox, seen } = outboxOf(client, { minRetryDelay: 10_000, maxRetryDelay: 10_000 });
    await client.ready();
    await Promise.all([outbox.send('small', 's'), outbox.send('big', 'much larger')]);
    await seen.count(3);
    expect(seen.items.at(-1)).toBe('failed much larger');
    expect(outbox.messages.map(({ data, state }) => [data, state])).toEqual([['s', 'queued'], ['much larger', 'failed']]);
  });
});

describe('what can be promised', () => {
  test.each([
    ['a server that knows keys', {}, 'ada', 'exactly once'],
    ['a server that knows none', { idempotencyTtl: 0 }, 'ada', 'at least once'],
    ['an anonymous user', {}, '', 'at least once'],
  ] as const)('%s', async (_, serverOptions, token, delivery) => {
    const setting = set({}, serverOptions, { token });
    const done = sent(setting);
    await setting.client.ready();
    expect(setting.outbox.delivery).toBe(delivery);
    // Only one attempt was made, so this one is certain anyway.
    await setting.outbox.send('a', 1);
    expect((await done.count(1))[0]).toMatchObject({ delivery: 'exactly once' });
    // The reply to the first attempt at this one is lost.
    const { server } = setting;
    const real = server.isRepeat.bind(server);
    server.isRepeat = (user, channel, key) => {
      server.isRepeat = real;
      if (!real(user, channel, key)) server.publish(channel, 2);
      throw new BobolinkError(100, 'internal server error', true);
    };
    await setting.outbox.send('a', 2);
    expect((await done.count(2))[1]).toMatchObject({ delivery });
    expect(await history(server)).toEqual(delivery === 'exactly once' ? [1, 2] : [1, 2, 2]);
  });

  test('past the time for which keys are remembered it is at least once', async () => {
    const store = memoryStore();
    const tried = { at: Date.now() - 100_000, known: true };
    await store.add({ id: 'k', channel: 'a', data: 1, at: tried.at, tried });
    const setting = set({ store }, { idempotencyTtl: 99 });
    expect((await sent(setting).count(1))[0]).toMatchObject({ id: 'k', delivery: 'at least once' });
  });

  test('an attempt at a server without keys is not forgotten at the next server', async () => {
    const store = memoryStore();
    const tried = { at: Date.now(), known: false };
    await store.add({ id: 'k', channel: 'a', data: 1, at: tried.at, tried });
    expect((await sent(set({ store })).count(1))[0]).toMatchObject({ delivery: 'at least once' });
  });

  test('every attempt has the same key, and no two messages do', async () => {
    const { outbox, server, seen } = set();
    await Promise.all(Array.from({ length: 50 }, (_, n) => outbox.send('a', n)));
    await seen.count(100);
    const keys = server.commands.flatMap(({ publish }) => publish?.idempotency_key ?? []);
    expect(new Set(keys).size).toBe(50);
  });
});

describe.each([
  ['memory', memoryStore],
  ['IndexedDB', () => indexedDBStore(`outbox-${Math.random()}`)],
])('the store in %s', (_, make) => {
  test('keeps messages in order, and what became of them', async () => {
    const store = make();
    const message = (id: string) => ({ id, channel: 'a', data: { id }, at: 1 });
    const [first, second, third] = await Promise.all(['1', '2', '3'].map((id) => store.add(message(id))));
    expect([first! < second!, second! < third!]).toEqual([true, true]);
    await store.put({ ...message('2'), seq: second!, error: { code: 103, message: 'no' } });
    await store.remove(first!);
    expect(await store.load()).toEqual([
      { ...message('2'), seq: second, error: { code: 103, message: 'no' } },
      { ...message('3'), seq: third },
    ]);
    expect(await store.add(message('4'))).toBeGreaterThan(third!);
    store.close();
  });

  test('a reload in the middle loses nothing and doubles nothing', async () => {
    const store = make();
    const server = new FakeServer();
    const real = server.isRepeat.bind(server);
    for (let round = 0; round < 5; round += 1) {
      const client = connect(server);
      // Applied, but the page is gone before the reply.
      server.isRepeat = (user, channel, key) => {
        const repeat = real(user, channel, key);
        if (!repeat) queueMicrotask(() => client.close());
        return repeat;
      };
      const { outbox } = outboxOf(client, { store: { ...store, close: () => undefined } });
      await outbox.ready();
      await outbox.send('a', round).catch(() => undefined);
      await soon(() => expect(client.state.name).toBe('closed'));
    }
    server.isRepeat = real;
    const { outbox } = outboxOf(connect(server), { store });
    await outbox.ready();
    await soon(() => expect(outbox.messages).toEqual([]));
    expect(await history(server)).toEqual([0, 1, 2, 3, 4]);
  });
});

describe('a store that fails', () => {
  const broken = (part: Partial<OutboxStore>): OutboxStore => ({ ...memoryStore(), ...part });
  const fails = () => Promise.reject(new Error('quota'));

  test('makes send reject and leaves no trace', async () => {
    const { outbox } = set({ store: broken({ add: fails }), limit: 1 });
    const failed = { name: 'BobolinkError', code: 24, temporary: true, cause: { message: 'quota' } };
    await expect(outbox.send('a', 1)).rejects.toMatchObject(failed);
    await expect(outbox.send('a', 1)).rejects.toMatchObject(failed);
    expect(outbox.messages).toEqual([]);
  });

  test('makes retry and remove reject, and the message stays', async () => {
    const store = broken({ put: fails, remove: fails });
    await store.add({ id: 'k', channel: 'a', data: 1, at: 1, error: { code: 103, message: 'permission denied' } });
    const { outbox } = set({ store });
    await outbox.ready();
    const failed = { name: 'BobolinkError', code: 24, temporary: true };
    await expect(outbox.retry('k')).rejects.toMatchObject(failed);
    await expect(outbox.remove('k')).rejects.toMatchObject(failed);
    expect(outbox.messages).toMatchObject([{ id: 'k', state: 'failed' }]);
  });

  test('is what a platform without IndexedDB has', async () => {
    vi.stubGlobal('indexedDB', undefined);
    const { outbox } = set({ store: undefined });
    await expect(outbox.send('a', 1)).rejects.toMatchObject({ name: 'BobolinkError', code: 24, temporary: true });
    vi.unstubAllGlobals();
  });

  test('is told of when it cannot be read, and sending goes on', async () => {
    const setting = set({ store: broken({ load: fails }) });
    const errors = new Seen('error', (add) => setting.outbox.on('error', add));
    expect((await errors.count(1))[0]).toMatchObject({ code: 24, temporary: true });
    await setting.outbox.send('a', 1);
    await setting.seen.count(2);
  });

  test('is tried again before anything leaves', async () => {
    const store = memoryStore();
    const put = store.put.bind(store);
    let failures = 2;
    const { outbox, server, seen } = set({ store: broken({ ...store, put: (message) => (failures-- > 0 ? fails() : put(message)) }) });
    await outbox.send('a', 1);
    await seen.count(2);
    expect(failures).toBe(-1);
    expect(await history(server)).toEqual([1]);
  });
});

describe('tabs', () => {
  test('one of them sends for all, in the order of sending, and all see what happens', async () => {
    const [browser, store, server] = [new FakeBrowser(), memoryStore(), new FakeServer()];
    const tabs = [0, 1, 2].map(() => {
      const tab = browser.tab();
      const client = connect(server, { minReconnectDelay: 1 });
      client.disconnect();
      return { tab, client, ...outboxOf(client, { store: { ...store, close: () => undefined }, tabs: tab.means }) };
    });
    for (let n = 0; n < 9; n += 1) await tabs[n % 3]!.outbox.send('a', n);
    tabs.forEach(({ client }) => client.connect());
    await Promise.all(tabs.map(({ seen }) => seen.count(18)));
    expect(await history(server)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8]);
    expect(tabs.map(({ outbox }) => outbox.messages)).toEqual([[], [], []]);
    expect(server.commands.filter(({ publish }) => publish)).toHaveLength(9);
  });

  test('when the one that sends is closed, the next one goes on', async () => {
    const [browser, store, server] = [new FakeBrowser(), memoryStore(), new FakeServer()];
    const shared = { ...store, close: () => undefined };
    const [first, second] = [browser.tab(), browser.tab()];
    const dying = connect(server);
    const real = server.isRepeat.bind(server);
    server.isRepeat = (...args) => {
      if (real(...args)) return true;
      // Applied, and the tab is gone before it hears of it.
      queueMicrotask(() => {
        dying.disconnect();
        first.kill();
      });
      return false;
    };
    outboxOf(dying, { store: shared, tabs: first.means });
    const client = connect(server);
    const { outbox, seen } = outboxOf(client, { store: shared, tabs: second.means });
    await outbox.send('a', 1);
    await outbox.send('a', 2);
    await soon(() => expect(seen.items).toContain('sent 2'));
    expect(await history(server)).toEqual([1, 2]);
  });
});

describe('closing', () => {
  test('leaves no timer, listener, lock or channel, and keeps what waits', async () => {
    const [browser, store, clock] = [new FakeBrowser(), memoryStore(), new ManualClock()];
    const { outbox, client, server } = set({ store, clock, tabs: browser.tab().means, minRetryDelay: 1000 });
    server.isRepeat = () => {
      throw new BobolinkError(100, 'internal server error', true);
    };
    await outbox.send('a', 1);
    await soon(() => expect(clock.pending).toHaveLength(1));
    outbox.close();
    outbox.close();
    expect(clock.pending).toEqual([]);
    await soon(() => expect([browser.locks, browser.channels]).toEqual([0, 0]));
    expect(await store.load()).toHaveLength(1);
    await expect(outbox.send('a', 2)).rejects.toMatchObject({ code: 4 });
    expect(client.state.name).toBe('connected');
  });

  test('comes with the end of the client, also while the lock is waited for', async () => {
    const browser = new FakeBrowser();
    const [one, two] = [set({ tabs: browser.tab().means }), set({ tabs: browser.tab().means })];
    await soon(() => expect(browser.locks).toBe(2));
    two.client.close();
    one.client.close();
    await soon(() => expect([browser.locks, browser.channels]).toEqual([0, 0]));
  });
});
