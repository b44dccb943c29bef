// Connecting, staying connected, and being turned away.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { disconnectedCodes } from 'centrifuge';

import { Clients, everyCodec, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';
import { connectionToken } from './support/tokens.mjs';
import { PATIENCE_MS, Record, record, recordAll } from './support/waiting.mjs';

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
/** Seconds a token lives: so many that it is good when it comes, though the machine stands still meanwhile. */
const TTL = 6;
/** Three lives of a token, or three pings, on a machine that is busy. */
const LONG_MS = 45_000;

let gateway;
let clients;
before(async () => {
  gateway = await Gateway.start();
  clients = new Clients(gateway);
});
after(() => gateway?.stop());

for (const codec of everyCodec) {
  describe(codec.name, { concurrency: true }, () => {
    test('a token lets a client in', async (t) => {
      const client = clients.make(t, codec, { data: codec.pack({ device: 'phone' }) });
      const connected = record(client, 'connected');
      client.connect();
      const context = await connected.first();
      assert.match(context.client, UUID);
      assert.equal(context.transport, 'websocket');
    });

    test('a token signed by someone else ends the connection for good', async (t) => {
      await refused(t, codec, connectionToken('anna', { secret: 'guessed' }), 3500);
    });

    test('something that is no token ends the connection for good', async (t) => {
      await refused(t, codec, 'anna', 3500);
    });

    test('a token made for a subscription does not open a connection', async (t) => {
      await refused(t, codec, connectionToken('anna', { channel: 'news' }), 3500);
    });

    test('no token at all ends the connection for good', async (t) => {
      await refused(t, codec, '', 3501);
    });

    test('an expired token is replaced by a fresh one', async (t) => {
      const tokens = [connectionToken('anna', { ttl: -10 }), connectionToken('anna')];
      const client = clients.make(t, codec, { getToken: async () => tokens.shift() });
      client.connect();
      await client.ready(PATIENCE_MS);
      assert.deepEqual(tokens, []);
    });

    test('many subscriptions travel in the connect frame and all are answered', async (t) => {
      const client = clients.make(t, codec);
      const subs = Array.from({ length: 60 }, () => client.newSubscription(uniqueChannel('open')));
      subs.forEach((sub) => sub.subscribe());
      client.connect();
      await Promise.all(subs.map((sub) => sub.ready(PATIENCE_MS)));
      assert.equal(client.wire.sent.items.length, 1, 'frames sent');
      const ids = client.wire.replies.items.map((reply) => reply.id).filter(Boolean);
      assert.deepEqual(ids, Array.from({ length: 61 }, (_, index) => index + 1));
    });

    test('remote calls are not available without a handler', async (t) => {
      const client = await clients.connect(t, codec);
      await assert.rejects(client.rpc('anything', codec.pack({})), { code: 108 });
    });

    test('a message past the size limit ends the connection for good', async (t) => {
      const client = await clients.connect(t, codec);
      const disconnected = record(client, 'disconnected');
      client.publish(uniqueChannel('open'), codec.pack('x'.repeat(70_000))).catch(() => {});
      // The SDK's own code for a socket closed with 1009.
      assert.equal((await disconnected.first()).code, disconnectedCodes.messageSizeLimit);
    });
  });
}

describe('what takes a while', { concurrency: true }, () => {
  let expiring;
  let pinging;
  before(async () => {
    // Seven seconds and more are left to refresh a token.
    expiring = await Gateway.start({ client: { expired_close_delay: '8s' } });
    // A client has nearly five seconds for its answer, and the second ping comes after the first is overdue.
    pinging = await Gateway.start({ client: { ping_interval: '5s', pong_timeout: '4900ms' } });
  });
  after(async () => {
    await expiring?.stop();
    await pinging?.stop();
  });

  for (const codec of everyCodec) {
    test(`a refreshed token keeps the same connection open past the first expiration, ${codec.name}`, async (t) => {
      const asked = new Record('token asked for');
      const client = new Clients(expiring).make(t, codec, {
        getToken: async () => {
          asked.add('token');
          return connectionToken('anna', { ttl: TTL });
        },
      });
      const states = recordAll(client, 'connecting', 'connected', 'disconnected');
      client.connect();
      // A connection that is not refreshed is closed before the fourth is asked for.
      await asked.count(4, LONG_MS);
      assert.deepEqual(states.items.map(([name]) => name), ['connecting', 'connected']);
    });

    test(`pings are answered, so a quiet connection stays open, ${codec.name}`, async (t) => {
      const client = await new Clients(pinging).connect(t, codec);
      const lost = recordAll(client, 'connecting', 'disconnected');
      const isPing = (reply) => Object.keys(reply).length === 0;
      await client.wire.replies.until((replies) => replies.filter(isPing).length >= 3, LONG_MS);
      await client.wire.sent.count(4);
      assert.deepEqual(lost.items, []);
    });
  }
});

async function refused(t, codec, token, code) {
  const client = clients.make(t, codec, { token });
  const disconnected = record(client, 'disconnected');
  client.connect();
  assert.equal((await disconnected.first()).code, code);
  assert.equal(client.state, 'disconnected');
}
