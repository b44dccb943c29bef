/** Tabs with one connection, against the server that applications test with. */

import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { fossil } from '../src/delta.js';
import { BobolinkError, type Client, type NetworkEvent, type Subscription } from '../src/index.js';
import { memoryStore, Outbox } from '../src/outbox.js';
import { sharedClient, type SharedClientOptions } from '../src/tabs.js';
import { FakeServer, type FakeServerOptions } from '../src/testing.js';
import type { Socket } from '../src/transport.js';
import type { Command, Reply } from '../src/wire.js';
import { numbers } from './behaviour/scenarios.js';
import { ManualClock, settled } from './support/clock.js';
import { patchBetween } from './support/patch.js';
import { PATIENCE, Seen } from './support/seen.js';
import { soon } from './support/soon.js';
import { FakeBrowser, type FakeTab } from './support/tabs.js';

let browser: FakeBrowser;
let server: FakeServer;
let clients: Client[];

beforeEach(() => begin());
afterEach(() => clients.forEach((client) => client.close()));

function begin(options: FakeServerOptions = {}): void {
  browser = new FakeBrowser();
  server = new FakeServer(options);
  clients = [];
}

interface Page {
  client: Client;
  tab: FakeTab;
  /** Closed by the user: its code is gone, and so is its connection. */
  kill: () => void;
}

/** A tab with a client that uses the shared connection. */
function page(options: SharedClientOptions = {}): Page {
  const tab = browser.tab();
  const sockets: Socket[] = [];
  const client = sharedClient('ws://fake', {
    token: 'ada',
    minReconnectDelay: 10,
    maxReconnectDelay: 20,
    transport: (endpoint, listener) => {
      const socket = server.transport(endpoint, listener);
      sockets.push(socket);
      return socket;
    },
    tabs: tab.means,
    ...options,
  });
  clients.push(client);
  return {
    client,
    tab,
    kill() {
      tab.kill();
      sockets.forEach((socket) => socket.close());
    },
  };
}

async function connected(count: number, options: SharedClientOptions = {}): Promise<Page[]> {
  const pages = numbers(1, count).map(() => page(options));
  await Promise.all(pages.map(({ client }) => client.connect().ready(PATIENCE)));
  return pages;
}

async function subscribed({ client }: Page, channel = 'a'): Promise<{ sub: Subscription; heard: Seen<unknown> }> {
  const sub = client.subscription(channel).subscribe();
  const heard = new Seen(`publications of ${channel}`, (add) => sub.on('publication', ({ data }) => add(data)));
  await sub.ready(PATIENCE);
  return { sub, heard };
}

function commands(name: keyof Command): number {
  return server.commands.filter((command) => command[name]).length;
}

describe('sharing', () => {
  test('three tabs have one connection and one subscription, and all hear everything', async () => {
    const pages = await connected(3);
    const all = await Promise.all(pages.map((one) => subscribed(one)));
    expect([server.connections, commands('connect'), commands('subscribe')]).toEqual([1, 1, 1]);
    await all[2]!.sub.publish(1);
    await pages[0]!.client.publish('a', 2);
    for (const { heard } of all) expect(await heard.count(2)).toEqual([1, 2]);
  });

  test('a tab that comes later hears what comes from then on, and knows its place', async () => {
    const [first] = await connected(1);
    const { heard } = await subscribed(first!);
    server.publish('a', 1);
    await heard.count(1);
    const [late] = await connected(1);
    const { sub, heard: lateHeard } = await subscribed(late!);
    expect(sub.position).toEqual({ epoch: 'fake', offset: 1 });
    server.publish('a', 2);
    expect(await lateHeard.count(1)).toEqual([2]);
    expect(commands('subscribe')).toBe(1);
  });

  test('a channel is left with the last tab that has it', async () => {
    const pages = await connected(2);
    const [one, two] = await Promise.all(pages.map((one) => subscribed(one)));
    one!.sub.unsubscribe();
    server.publish('a', 1);
    await two!.heard.count(1);
    expect([commands('unsubscribe'), one!.heard.items]).toEqual([0, []]);
    two!.sub.close();
    await soon(() => expect(commands('unsubscribe')).toBe(1));
    const again = await subscribed(pages[0]!);
    expect(await again.heard.count(1)).toEqual([1]);
  });

  test('calls, presence and history are answered to the tab that asks', async () => {
    begin({ rpc: (method, data) => [method, data] });
    const pages = await connected(2);
    const asked = pages.map(({ client }, n) => client.rpc('m', n));
    expect(await Promise.all(asked)).toEqual([['m', 0], ['m', 1]]);
    const { sub } = await subscribed(pages[1]!);
    await sub.publish('x');
    expect((await sub.history({ limit: 1 })).publications).toMatchObject([{ data: 'x', offset: 1 }]);
    expect(Object.values(await sub.presence()).map(({ user }) => user)).toEqual(['ada']);
    await expect(pages[1]!.client.history('a', { since: { epoch: 'other', offset: 1 } })).rejects.toMatchObject({ code: 112 });
    await pages[1]!.client.send('hello');
    await soon(() => expect(commands('send')).toBe(1));
  });

  test('messages of the server reach every tab', async () => {
    const pages = await connected(3);
    const heard = pages.map(({ client }) => new Seen('message', (add) => client.on('message', add)));
    server.message('all');
    for (const seen of heard) expect(await seen.count(1)).toEqual(['all']);
  });

  test('a refused subscription is refused in every tab that asks', async () => {
    begin({
      authorize: () => {
        throw new BobolinkError(103, 'permission denied');
      },
    });
    for (const one of await connected(2)) {
      await expect(subscribed(one)).rejects.toMatchObject({ code: 103, message: 'permission denied' });
    }
  });

  test('the server may end a subscription in all tabs', async () => {
    const all = await Promise.all((await connected(2)).map((one) => subscribed(one)));
    server.unsubscribe('a');
    for (const { sub } of all) await soon(() => expect(sub.state).toMatchObject({ name: 'unsubscribed', code: 2000 }));
    const again = all[1]!.sub.subscribe();
    await again.ready(PATIENCE);
  });

  test('joins and leaves come to the tab that wants them, even if another was first', async () => {
    const [one, two] = await connected(2);
    await subscribed(one!);
    const sub = two!.client.subscription('a', { joinLeave: true }).subscribe();
    const joins = new Seen('join', (add) => sub.on('join', ({ user }) => add(user)));
    await sub.ready(PATIENCE);
    const bob = page({ name: 'bob', token: 'bob' });
    await bob.client.connect().ready(PATIENCE);
    await subscribed(bob);
    // Its own, and then the other's.
    expect(await joins.count(2)).toEqual(['ada', 'bob']);
  });

  test('one channel has one filter', async () => {
    const [one, two] = await connected(2);
    await subscribed(one!);
    const sub = two!.client.subscription('a', { tagsFilter: { key: 'k', cmp: 'ex' } }).subscribe();
    await expect(sub.ready(PATIENCE)).rejects.toMatchObject({ code: 107 });
  });

  test('publications come as patches to the leader and whole to every tab', async () => {
    const [texts, base] = [[{ n: 1, t: 'same' }, { n: 2, t: 'same' }, { n: 3, t: 'same' }].map((it) => JSON.stringify(it)), { text: '' }];
    // A server that sends patches where they are asked for.
    const patching = (endpoint: string, listener: Parameters<typeof server.transport>[1]): Socket =>
      server.transport(endpoint, {
        ...listener,
        received(frame) {
          const reply = JSON.parse(frame as string) as Reply;
          if (reply.subscribe) reply.subscribe.delta = true;
          if (reply.push?.pub) {
            const text = texts.shift()!;
            reply.push.pub = { ...reply.push.pub, data: base.text ? patchBetween(base.text, text) : text, delta: !!base.text };
            base.text = text;
          }
          listener.received(JSON.stringify(reply));
        },
      });
    const [one, two] = await connected(2, { transport: patching, delta: fossil });
    const { heard } = await subscribed(one!);
    server.publish('a', 'the first');
    await heard.count(1);
    const { heard: late } = await subscribed(two!);
    server.publish('a', 'the second');
    server.publish('a', 'the third');
    expect(await heard.count(3)).toEqual([{ n: 1, t: 'same' }, { n: 2, t: 'same' }, { n: 3, t: 'same' }]);
    expect(await late.count(2)).toEqual([{ n: 2, t: 'same' }, { n: 3, t: 'same' }]);
    expect(server.commands.find(({ subscribe }) => subscribe)?.subscribe?.delta).toBe('fossil');
  });

  test('tabs with different names do not share', async () => {
    const [one, two] = [page({ name: 'one' }), page({ name: 'two' })];
    await Promise.all([one, two].map(({ client }) => client.connect().ready(PATIENCE)));
    expect(server.connections).toBe(2);
  });

  test('without locks every tab is alone', async () => {
    const alone = page({ tabs: undefined, name: 'alone' });
    await alone.client.connect().ready(PATIENCE);
    expect((await subscribed(alone)).sub.state.name).toBe('subscribed');
  });
});

describe('a tab that needs more than the leader knows', () => {
  test.each([
    ['gets it, and the others hear what came while the leader asked', 100, [2, 3, 4]],
    ['is told if it is gone, and the others recover', 1, []],
  ])('%s', async (_, historySize, expected) => {
    let between: unknown[] = [];
    begin({ historySize, authorize: (channel) => between.splice(0).forEach((data) => server.publish(channel, data)) });
    const pages = await connected(3);
    const { sub, heard } = await subscribed(pages[2]!);
    server.publish('a', 1);
    await heard.count(1);
    sub.unsubscribe();
    server.publish('a', 2);
    server.publish('a', 3);
    await soon(() => expect(commands('unsubscribe')).toBe(1));
    const others = await Promise.all(pages.slice(0, 2).map((one) => subscribed(one)));
    // Between leaving the channel and having it back from an earlier place.
    between = [4];
    await sub.subscribe().ready(PATIENCE);
    for (const other of others) await other.heard.count(1);
    server.publish('a', 5);
    expect(await heard.count(expected.length + 2)).toEqual([1, ...expected, 5]);
    for (const other of others) expect(await other.heard.count(2)).toEqual([4, 5]);
  });
});

/** Milliseconds of the clock until something is over: none, if it waits only for what tabs and server say to each other. */
async function passes(clock: ManualClock, isOver: () => boolean): Promise<number> {
  for (let ms = 0; ms < 60_000; ms += 10) {
    for (let turn = 0; turn < 100; turn += 1) await settled();
    if (isOver()) return ms;
    await clock.advance(10);
  }
  return Infinity;
}

describe('the leader goes', () => {
  test.each([
    ['closed by the user', (leader: Page) => leader.kill()],
    ['closed by the application', (leader: Page) => leader.client.close()],
  ])('%s: the next tab takes over within a second, and nothing is lost or doubled', async (_, leave) => {
    const led: number[] = [];
    // The longest delays before a reconnect that there are by default.
    const clock = new ManualClock();
    const delays = { clock, random: () => 0.999, minReconnectDelay: undefined, maxReconnectDelay: undefined };
    const pages = [0, 1, 2].map((n) => page({ ...delays, onLead: () => led.push(n) }));
    await Promise.all(pages.map(({ client }) => client.connect().ready(PATIENCE)));
    const all = await Promise.all(pages.map((one) => subscribed(one)));
    numbers(1, 5).forEach((n) => server.publish('a', n));
    await all[2]!.heard.count(5);
    const back = new Seen('subscribed', (add) => all[2]!.sub.on('subscribed', add));
    leave(pages[0]!);
    numbers(6, 9).forEach((n) => server.publish('a', n));
    // Without a timer, it takes what a message and a connection take.
    expect(await passes(clock, () => back.items.length > 0)).toBe(0);
    server.publish('a', 10);
    for (const { heard } of all.slice(1)) expect(await heard.count(10)).toEqual(numbers(1, 10));
    expect([led, server.connections]).toEqual([[0, 1], 1]);
  });

  test('tabs that were at different places all get what they missed', async () => {
    const pages = await connected(3);
    const all = await Promise.all(pages.map((one) => subscribed(one)));
    server.publish('a', 1);
    await Promise.all(all.map(({ heard }) => heard.count(1)));
    // The third tab is slow: what the leader sends it is lost with the leader.
    const channels = [...pages[2]!.tab.channels];
    pages[2]!.tab.channels.clear();
    server.publish('a', 2);
    server.publish('a', 3);
    await all[1]!.heard.count(3);
    channels.forEach((channel) => pages[2]!.tab.channels.add(channel));
    pages[0]!.kill();
    server.publish('a', 4);
    for (const { heard } of all.slice(1)) expect(await heard.count(4)).toEqual([1, 2, 3, 4]);
  });

  test('when what a tab missed is gone, that tab is told, and the others keep on', async () => {
    begin({ historySize: 2 });
    const pages = await connected(3);
    const all = await Promise.all(pages.map((one) => subscribed(one)));
    server.publish('a', 1);
    await Promise.all(all.map(({ heard }) => heard.count(1)));
    const channels = [...pages[2]!.tab.channels];
    pages[2]!.tab.channels.clear();
    numbers(2, 8).forEach((n) => server.publish('a', n));
    await all[1]!.heard.count(8);
    channels.forEach((channel) => pages[2]!.tab.channels.add(channel));
    const told = new Seen('subscribed', (add) => all[2]!.sub.on('subscribed', ({ recovered }) => add(recovered)));
    pages[0]!.kill();
    expect(await told.count(1)).toEqual([false]);
    server.publish('a', 9);
    expect((await all[2]!.heard.count(2)).at(-1)).toBe(9);
    expect(await all[1]!.heard.count(9)).toEqual(numbers(1, 9));
  });

  test('what was asked and not answered fails as lost', async () => {
    begin({ rpc: () => 'never seen' });
    const [one, two] = await connected(2);
    const asked = two!.client.rpc('m');
    await settled();
    one!.kill();
    await expect(asked).rejects.toMatchObject({ code: 2, temporary: true });
  });

  test('the outbox goes on where it was', async () => {
    const pages = await connected(2);
    const store = { ...memoryStore(), close: () => undefined };
    const outboxes = pages.map(({ client, tab }) => new Outbox(client, { store, tabs: tab.means, minRetryDelay: 1 }));
    server.cut();
    for (const n of numbers(1, 6)) await outboxes[n % 2]!.send('a', n);
    pages[0]!.kill();
    server.mend();
    await soon(() => expect(outboxes[1]!.messages).toEqual([]));
    expect(server.history('a').map(({ data }) => data)).toEqual(numbers(1, 6));
  });
});

describe('the connection', () => {
  test('is lost and comes back in all tabs at once', async () => {
    const pages = await connected(3);
    const all = await Promise.all(pages.map((one) => subscribed(one)));
    server.cut();
    await soon(() => expect(pages.map(({ client }) => client.state.name)).toEqual(['connecting', 'connecting', 'connecting']));
    numbers(1, 3).forEach((n) => server.publish('a', n));
    server.mend();
    for (const { heard } of all) expect(await heard.count(3)).toEqual([1, 2, 3]);
    expect(server.connections).toBe(1);
  });

  test('an outage is tried against by one tab at a time, with backoff', async () => {
    const clock = new ManualClock();
    let attempts = 0;
    const transport: SharedClientOptions['transport'] = (_endpoint, listener) => {
      attempts += 1;
      queueMicrotask(() => listener.closed(1006, ''));
      return { send: () => undefined, close: () => undefined };
    };
    const options = { clock, transport, random: () => 0.999, minReconnectDelay: 500, maxReconnectDelay: 20_000 };
    numbers(1, 5).forEach(() => page(options).client.connect());
    await soon(() => expect(attempts).toBe(1));
    for (let passed = 0; passed < 60; passed += 1) {
      await clock.advance(1_000);
      await settled();
    }
    // One client alone makes 1 + 0.5, 1, 2, 4, 8, 16 s: seven in a minute.
    expect(attempts).toBeGreaterThan(3);
    expect(attempts).toBeLessThan(12);
  });

  test('ends for good in all tabs where it ends for good', async () => {
    const pages = await connected(2);
    server.disconnect(4500, 'go away');
    for (const { client } of pages) await soon(() => expect(client.state).toMatchObject({ name: 'disconnected', code: 4500 }));
    await Promise.all(pages.map(({ client }) => client.connect().ready(PATIENCE)));
  });

  test('ends with the last tab that wants it', async () => {
    const pages = await connected(2);
    pages[0]!.client.disconnect();
    await settled();
    expect([server.connections, pages[1]!.client.state.name]).toEqual([1, 'connected']);
    pages[1]!.client.disconnect();
    await soon(() => expect(server.connections).toBe(0));
    await pages[1]!.client.connect().ready(PATIENCE);
  });

  test('is given up when the server falls silent', async () => {
    begin({ ping: 5 });
    const clock = new ManualClock();
    const pages = [page({ clock }), page({ clock })];
    await Promise.all(pages.map(({ client }) => client.connect().ready()));
    await clock.advance(14_000);
    server.ping();
    await soon(() => expect(server.pongs).toBe(1));
    await clock.advance(14_000);
    expect(pages.map(({ client }) => client.state.name)).toEqual(['connected', 'connected']);
    await clock.advance(1_001);
    await soon(() => expect(pages.map(({ client }) => client.state.name)).toEqual(['connecting', 'connecting']));
  });

  test('forgets tabs that are gone without a word', async () => {
    begin({ ping: 25 });
    const [one, two] = await connected(2);
    await subscribed(one!, 'ours');
    await subscribed(two!, 'theirs');
    two!.tab.kill();
    for (let n = 0; n < 3; n += 1) {
      server.ping();
      await settled();
      await settled();
    }
    await soon(() => expect(commands('unsubscribe')).toBe(1));
    expect(one!.client.state.name).toBe('connected');
  });

  test('offline and online hold for tabs as for a client', async () => {
    const listeners = new Set<(event: NetworkEvent) => void>();
    const network: SharedClientOptions['network'] = (listener) => {
      listeners.add(listener);
      return () => listeners.delete(listener);
    };
    const pages = await connected(2, { network });
    listeners.forEach((listener) => listener('offline'));
    await soon(() => expect(server.connections).toBe(0));
    listeners.forEach((listener) => listener('online'));
    await Promise.all(pages.map(({ client }) => client.ready(PATIENCE)));
    expect(server.connections).toBe(1);
  });
});

describe('tokens', () => {
  test('one tab asks for all', async () => {
    const getToken = vi.fn(() => Promise.resolve('ada'));
    const pages = await connected(4, { token: '', getToken });
    expect(getToken.mock.calls.length).toBeLessThan(4);
    const before = getToken.mock.calls.length;
    const [late] = await connected(1, { token: '', getToken });
    server.cut();
    await soon(() => expect(late!.client.state.name).toBe('connecting'));
    server.mend();
    await Promise.all([...pages, late!].map(({ client }) => client.ready(PATIENCE)));
    expect(getToken.mock.calls.length).toBe(before);
    expect(server.commands.flatMap(({ connect }) => connect?.token ?? [])).not.toContain('-');
  });

  test('an expired one is replaced, and the new leader has its own', async () => {
    let issued = 0;
    let valid = 'token 1';
    begin({
      authenticate: (token) => {
        if (token !== valid) throw new BobolinkError(109, 'token expired', true);
        return 'ada';
      },
    });
    const getToken = (): string => (valid = `token ${++issued}`);
    const pages = await connected(2, { token: '', getToken });
    valid = 'another';
    server.cut();
    await soon(() => expect(pages[1]!.client.state.name).toBe('connecting'));
    server.mend();
    await Promise.all(pages.map(({ client }) => client.ready(PATIENCE)));
    const again = new Seen('connected', (add) => pages[1]!.client.on('connected', add));
    pages[0]!.kill();
    await again.count(1);
    expect(server.connections).toBe(1);
  });

  test('one tab renews it for all, and the next one when that tab is closed', async () => {
    const clock = new ManualClock();
    const renewed: string[] = [];
    const transport: SharedClientOptions['transport'] = (endpoint, listener) => {
      const socket = server.transport(endpoint, {
        ...listener,
        received(frame) {
          const reply = JSON.parse(frame as string) as Reply;
          Object.assign(reply.connect ?? {}, { expires: true, ttl: 100 });
          listener.received(JSON.stringify(reply));
        },
      });
      return {
        ...socket,
        close: () => socket.close(),
        send(frame) {
          const { id, refresh } = JSON.parse(frame as string) as Command;
          if (refresh) {
            renewed.push(refresh.token);
            listener.received(JSON.stringify({ id, refresh: { expires: true, ttl: 100 } }));
          } else {
            socket.send(frame);
          }
        },
      };
    };
    const pages = numbers(1, 3).map((n) => page({ clock, transport, token: '', getToken: () => `token of ${n}` }));
    for (const { client } of pages) await client.connect().ready();
    await clock.advance(100_000);
    await soon(() => expect(renewed).toEqual(['token of 1']));
    pages[0]!.client.disconnect();
    await soon(() => expect(clock.pending).toContain(100_000));
    await clock.advance(100_000);
    await soon(() => expect(renewed).toEqual(['token of 1', 'token of 2']));
  });

  test('one that gives up ends that tab', async () => {
    const getToken = (): string => '';
    const { client } = page({ token: '', getToken });
    await expect(client.connect().ready(PATIENCE)).rejects.toMatchObject({ code: 101 });
  });
});

describe('closing', () => {
  test('leaves no timer, lock, channel or connection', async () => {
    begin({ ping: 25 });
    const clock = new ManualClock();
    const pages = numbers(1, 3).map(() => page({ clock, getToken: () => 'ada' }));
    await Promise.all(pages.map(({ client }) => client.connect().ready()));
    await subscribed(pages[1]!);
    expect(clock.pending.length).toBeGreaterThan(0);
    pages.forEach(({ client }) => client.close());
    await soon(() => expect([browser.locks, browser.channels, server.connections]).toEqual([0, 0, 0]));
    expect(clock.pending).toEqual([]);
  });
});
