// What the server API does to clients that are connected.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, describe, test } from 'node:test';

import { Clients, everyCodec, subscribe, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';
import { connectionToken } from './support/tokens.mjs';
import { record, recordAll } from './support/waiting.mjs';

let gateway;
let clients;
before(async () => {
  gateway = await Gateway.start();
  clients = new Clients(gateway);
});
after(() => gateway?.stop());

for (const codec of everyCodec) {
  describe(codec.name, { concurrency: true }, () => {
    test('the server subscribes and unsubscribes a user', async (t) => {
      const [user, channel] = [randomUUID(), uniqueChannel('log')];
      const client = await clients.connect(t, codec, { user });
      const events = recordAll(client, 'subscribed', 'publication', 'unsubscribed');
      await gateway.api('subscribe', { user, channel, data: { greeting: 'hi' } });
      const [[, { data }]] = await events.count(1);
      assert.deepEqual(codec.unpack(data), { greeting: 'hi' });
      await gateway.publish(channel, { a: 1 });
      await events.count(2);
      await gateway.api('unsubscribe', { user, channel });
      await events.count(3);
      assert.deepEqual(events.items.map(([name, context]) => [name, context.channel]), [
        ['subscribed', channel], ['publication', channel], ['unsubscribed', channel],
      ]);
    });

    test('a subscription ended by the server stays ended', async (t) => {
      const user = randomUUID();
      const client = await clients.connect(t, codec, { user });
      const sub = await subscribe(client, uniqueChannel('open'));
      const unsubscribed = record(sub, 'unsubscribed');
      await gateway.api('unsubscribe', { user, channel: sub.channel });
      assert.equal((await unsubscribed.first()).code, 2000);
      assert.equal(sub.state, 'unsubscribed');
    });

    test('a disconnect is for good unless its code says otherwise', async (t) => {
      const user = randomUUID();
      const client = await clients.connect(t, codec, { user });
      const states = recordAll(client, 'connecting', 'connected', 'disconnected');
      await gateway.api('disconnect', { user, disconnect: { code: 4000, reason: 'move' } });
      await states.count(2);
      await gateway.api('disconnect', { user });
      await states.count(3);
      assert.deepEqual(states.items.map(([name, { code, reason }]) => [name, code, reason]), [
        ['connecting', 4000, 'move'], ['connected', undefined, undefined], ['disconnected', 3503, 'force disconnect'],
      ]);
    });

    test('a custom terminal code reaches the client', async (t) => {
      const user = randomUUID();
      const client = await clients.connect(t, codec, { user });
      const disconnected = record(client, 'disconnected');
      await gateway.api('disconnect', { user, disconnect: { code: 4501, reason: 'banned' } });
      assert.deepEqual({ ...(await disconnected.first()) }, { code: 4501, reason: 'banned' });
    });

    test('a disconnect spares the connections on its list', async (t) => {
      const user = randomUUID();
      const [spared, other] = [clients.make(t, codec, { user }), await clients.connect(t, codec, { user })];
      const connected = record(spared, 'connected');
      spared.connect();
      const { client } = await connected.first();
      const disconnected = record(other, 'disconnected');
      await gateway.api('disconnect', { user, whitelist: [client] });
      await disconnected.first();
      await subscribe(spared, uniqueChannel('open'));
      assert.deepEqual(connected.items.length, 1);
    });

    test('a refresh may end a connection, which comes back with a new token', async (t) => {
      const user = randomUUID();
      let asked = 0;
      const client = await clients.connect(t, codec, {
        user,
        getToken: async () => {
          asked += 1;
          return connectionToken(user);
        },
      });
      const states = recordAll(client, 'connecting', 'connected');
      await gateway.api('refresh', { user, expired: true });
      await states.count(2);
      assert.deepEqual(states.items.map(([name, { code }]) => [name, code]), [['connecting', 3005], ['connected', undefined]]);
      assert.ok(asked >= 1);
    });

    test('a broadcast reaches every channel it names', async (t) => {
      const client = await clients.connect(t, codec);
      const subs = [await subscribe(client, uniqueChannel('open')), await subscribe(client, uniqueChannel('log'))];
      const received = subs.map((sub) => record(sub, 'publication'));
      await gateway.api('broadcast', { channels: subs.map(({ channel }) => channel), data: 'all' });
      for (const publications of received) {
        assert.equal(codec.unpack((await publications.first()).data), 'all');
      }
    });

    test('a repeated idempotency key publishes once', async (t) => {
      const client = await clients.connect(t, codec);
      const sub = await subscribe(client, uniqueChannel('log'));
      const received = record(sub, 'publication');
      const positions = [];
      for (let n = 0; n < 3; n += 1) {
        positions.push(await gateway.publish(sub.channel, n, { idempotency_key: 'once' }));
      }
      await gateway.publish(sub.channel, 'fence');
      await received.count(2);
      assert.deepEqual(received.items.map(({ data }) => codec.unpack(data)), [0, 'fence']);
      assert.deepEqual(positions.map(({ offset }) => offset), [1, 1, 1]);
    });
  });
}
