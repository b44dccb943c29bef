/** The behaviour suite against the gateway, and what only a whole server can show. */

import { randomUUID } from 'node:crypto';

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import { fossil, serverSidePatches } from '../../src/delta.js';
import { Client, type ClientOptions, type ClientState, type TagsFilter } from '../../src/index.js';
import { protobuf, protobufBytes } from '../../src/protobuf.js';
import { Seen } from '../support/seen.js';
import { startGateway, watchedSocket, type Make, type Server } from '../support/server.js';
import { away, connects, data, numbers, publishNumbers, scenarios, subscriptions, unique } from './scenarios.js';

const overProtobuf: Make = (endpoint, options) => new Client(endpoint, { codec: protobuf, ...options });

/** What tells on the wire that a publication came as a patch: in Protobuf its field 8. */
const CODECS = [
  { name: 'JSON', make: undefined, patch: /"delta":true/ },
  { name: 'Protobuf', make: overProtobuf, patch: /\x40\x01/ },
];

scenarios('the gateway, JSON', () => startGateway());
scenarios('the gateway, Protobuf', () => startGateway({}, overProtobuf));

describe.each(CODECS)('the gateway alone, $name', ({ name, make: make_, patch }) => {
  let server: Server;
  beforeAll(async () => {
    server = await startGateway({ channel_limit: 50 }, make_);
  });
  afterEach(() => server.sweep());
  afterAll(() => server.stop());

  async function make(options: ClientOptions = {}): Promise<Client> {
    return (await server.way()).client({ token: server.token('anna'), ...options });
  }

  async function connected(options: ClientOptions = {}): Promise<Client> {
    const client = (await make(options)).connect();
    await client.ready();
    return client;
  }

  function ends(client: Client): Seen<ClientState> {
    return new Seen('disconnected', (add) => client.on('disconnected', add));
  }

  test('a token of somebody else ends the attempts', async () => {
    const client = await make({ token: 'anna' });
    const ended = ends(client);
    client.connect();
    expect((await ended.count(1))[0]).toMatchObject({ code: 3500, reason: 'invalid token' });
  });

  test('an expired token is replaced', async () => {
    const tokens = [server.token('anna', { ttl: -10 }), server.token('anna')];
    await connected({ token: '', getToken: () => tokens.shift() ?? '' });
    expect(tokens).toEqual([]);
  });

  test('what is not allowed is refused with its code', async () => {
    const client = await connected();
    await expect(client.subscription(unique('closed')).subscribe().ready()).rejects.toMatchObject({ code: 103 });
    await expect(client.subscription('nowhere:x').subscribe().ready()).rejects.toMatchObject({ code: 102 });
    await expect(client.rpc('x')).rejects.toMatchObject({ code: 108, temporary: false });
    await expect(client.presence(unique())).rejects.toMatchObject({ code: 108 });
  });

  test('what a server does not take closes the connection for good', async () => {
    const client = await connected();
    const ended = ends(client);
    await client.send({ hello: 1 });
    expect((await ended.count(1))[0]).toMatchObject({ code: 3508 });
  });

  test('a message above the limit closes the connection for good', async () => {
    const client = await connected();
    const ended = ends(client);
    client.publish(unique('open'), 'x'.repeat(70_000)).catch(() => undefined);
    expect((await ended.count(1))[0]).toMatchObject({ code: 3, reason: 'message size limit' });
  });

  test('presence, joins and leaves tell who is there', async () => {
    const [anna, bert] = [await connected(), await connected({ token: server.token('bert') })];
    const sub = anna.subscription(unique('present')).subscribe();
    const moves = new Seen<string>('move', (add) => {
      sub.on('join', ({ user }) => add(`join ${user}`));
      return sub.on('leave', ({ user }) => add(`leave ${user}`));
    });
    await sub.ready();
    const other = bert.subscription(sub.channel).subscribe();
    await other.ready();
    await moves.count(2);
    expect(Object.values(await sub.presence()).map(({ user }) => user).sort()).toEqual(['anna', 'bert']);
    expect(await sub.presenceStats()).toEqual({ clients: 2, users: 2 });
    other.unsubscribe();
    expect(await moves.count(3)).toEqual(['join anna', 'join bert', 'leave bert']);
  });

  test('patches make the same messages as whole ones', async () => {
    const way = await server.way();
    const wire = watchedSocket();
    const client = way.client({ token: server.token('anna'), websocket: wire.websocket }).connect();
    const sub = client.subscription(unique('delta'), { delta: fossil });
    const [heard, again] = [data(sub), subscriptions(sub)];
    sub.subscribe();
    await sub.ready();
    const text = (n: number): object => ({ n, text: 'the same in all of them: ü€😀'.repeat(5) });
    const publish = (first: number, last: number): Promise<void> =>
      numbers(first, last).reduce((before, n) => before.then(() => server.publish(sub.channel, text(n))), Promise.resolve());
    await publish(1, 5);
    await heard.count(5);
    await away(way, client, () => publish(6, 12));
    await again.count(2);
    await publish(13, 15);
    await heard.count(15);
    expect(heard.items).toEqual(numbers(1, 15).map(text));
    expect(wire.received(patch).items.length).toBeGreaterThan(5);
  });

  test('subscriptions that the server makes come as patches, too', async () => {
    const channel = unique('delta');
    const way = await server.way();
    const wire = watchedSocket();
    const codec = serverSidePatches([channel], name === 'JSON' ? undefined : protobuf);
    const token = server.token('anna', { channels: [channel] });
    const client = way.client({ token, codec, websocket: wire.websocket });
    const heard = new Seen('publication', (add) => client.on('publication', (publication) => add(publication.data)));
    const subscribed = new Seen('subscribed', (add) => client.on('subscribed', add));
    client.connect();
    await subscribed.count(1);
    const text = (n: number): object => ({ n, text: 'the same in all of them: ü€😀'.repeat(5) });
    const publish = (first: number, last: number): Promise<void> =>
      numbers(first, last).reduce((before, n) => before.then(() => server.publish(channel, text(n))), Promise.resolve());
    await publish(1, 5);
    await heard.count(5);
    const patches = wire.received(patch).items.length;
    await away(way, client, () => publish(6, 12));
    expect((await subscribed.count(2))[1]).toMatchObject({ channel, recovered: true });
    await publish(13, 15);
    await heard.count(15);
    expect(heard.items).toEqual(numbers(1, 15).map(text));
    expect(patches).toBeGreaterThan(0);
    expect(wire.received(patch).items.length).toBeGreaterThan(patches + 1);
  });

  test('a subscription that the server made can be ended', async () => {
    const [ended, kept] = [unique(), unique()];
    const client = await connected({ token: server.token('anna', { channels: [ended, kept] }) });
    const heard = new Seen('publication', (add) => client.on('publication', ({ channel }) => add(channel)));
    const gone = new Seen('unsubscribed', (add) => client.on('unsubscribed', add));
    await client.unsubscribe(ended);
    expect(gone.items).toEqual([{ channel: ended, code: 0, reason: 'called' }]);
    await server.publish(ended, 1);
    await server.publish(kept, 2);
    expect(await heard.count(1)).toEqual([kept]);
  });

  test('a tags filter lets through what fits', async () => {
    const tagsFilter: TagsFilter = { key: 'kind', cmp: 'eq', val: 'wanted' };
    const sub = (await connected()).subscription(unique('tags'), { tagsFilter }).subscribe();
    const heard = data(sub);
    await sub.ready();
    await server.publish(sub.channel, 1, { kind: 'other' });
    await server.publish(sub.channel, 2, { kind: 'wanted' });
    expect(await heard.count(1)).toEqual([2]);
  });

  test('in cache mode only the newest message is caught up', async () => {
    const way = await server.way();
    const client = way.client({ token: server.token('anna') }).connect();
    const sub = client.subscription(unique('cache')).subscribe();
    const heard = data(sub);
    await sub.ready();
    await publishNumbers(server, sub.channel, 1, 1);
    await heard.count(1);
    await away(way, client, () => publishNumbers(server, sub.channel, 2, 6));
    await heard.count(2);
    await publishNumbers(server, sub.channel, 7, 7);
    expect(await heard.count(3)).toEqual([1, 6, 7]);
  });

  test('when history has moved on, the loss is told', async () => {
    const way = await server.way();
    const client = way.client({ token: server.token('anna') }).connect();
    const sub = client.subscription(unique('short')).subscribe();
    const again = subscriptions(sub);
    await sub.ready();
    await away(way, client, () => publishNumbers(server, sub.channel, 1, 9));
    expect((await again.count(2))[1]).toMatchObject({ wasRecovering: true, recovered: false, position: { offset: 9 } });
  });

  test('a channel subscribed by the token recovers as well', async () => {
    const channel = unique();
    const way = await server.way();
    const client = way.client({ token: server.token('anna', { channels: [channel] }) });
    const heard = new Seen('publication', (add) => client.on('publication', (publication) => add(publication.data)));
    const subscribed = new Seen('subscribed', (add) => client.on('subscribed', add));
    client.connect();
    await subscribed.count(1);
    await away(way, client, () => publishNumbers(server, channel, 1, 10));
    expect((await subscribed.count(2))[1]).toMatchObject({ channel, recovered: true });
    expect(await heard.count(10)).toEqual(numbers(1, 10));
  });

  test('data meant for one channel reaches only it, by number or by name', async () => {
    const wire = watchedSocket();
    const client = await connected({ websocket: wire.websocket });
    const subs = numbers(1, 10).map(() => client.subscription(unique()).subscribe());
    const heard = subs.map(data);
    await Promise.all(subs.map((sub) => sub.ready()));
    await Promise.all(subs.map((sub, index) => server.publish(sub.channel, index)));
    await Promise.all(heard.map((record) => record.count(1)));
    expect(heard.map(({ items }) => items)).toEqual(subs.map((_, index) => [index]));
    // Protobuf clients get names: JavaScript's 64-bit numbers there do not compare in every SDK.
    expect(wire.received(/"push":\{"id":/).items.length > 0).toBe(name === 'JSON');
  });

  test('a restarted gateway is found again, and what it forgot is told', async () => {
    const own = await startGateway();
    const way = await own.way();
    const client = way.client({ token: own.token(randomUUID()) });
    const connecting = connects(client);
    const sub = client.connect().subscription(unique()).subscribe();
    const again = subscriptions(sub);
    await sub.ready();
    await own.publish(sub.channel, 1);
    await own.restart();
    await connecting.count(2);
    expect((await again.count(2))[1]).toMatchObject({ wasRecovering: true, recovered: false });
    await own.sweep();
    await own.stop();
  });

  test('data may be bytes, and what is no JSON comes as bytes', async () => {
    const client = await connected({ codec: protobufBytes });
    const reader = await connected({ codec: protobuf });
    const channel = unique('binary');
    const bytes = Uint8Array.of(0, 255, 10, 13);
    const heard = [client, reader].map((one) => data(one.subscription(channel).subscribe()));
    await Promise.all([client, reader].map((one) => one.subscription(channel).ready()));
    await client.publish(channel, bytes);
    await client.publish(channel, new TextEncoder().encode('"text"'));
    const asBytes = (await heard[0]!.count(2)) as Uint8Array[];
    expect(asBytes.map((it) => [...it])).toEqual([[0, 255, 10, 13], [...new TextEncoder().encode('"text"')]]);
    const [raw, text] = await heard[1]!.count(2);
    expect([[...(raw as Uint8Array)], text]).toEqual([[...bytes], 'text']);
  });
});
