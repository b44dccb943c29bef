// Archived channels over Redis: what was published while a client was away has long left the stream in
// Redis, and comes from the store. Once with one gateway that stores into a file of its own, once with
// two gateways and a history service that share a MongoDB replica set.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Clients, everyCodec, subscribe, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';
import { Line } from './support/proxy.mjs';
import { startRedis, startReplicaSet } from './support/servers.mjs';
import { record } from './support/waiting.mjs';

/** What streams in Redis keep, and how much a client misses. */
const AT_HAND = 5;
const MISSED = 1_500;
/** What is on its way into the store is asked for again and again. */
const LONG_MS = 60_000;

const namespaces = [
  {
    name: 'long',
    history_archive: true,
    history_size: AT_HAND,
    history_ttl: '60s',
    force_recovery: true,
    allowed_delta_types: ['fossil'],
    delta_publish: true,
  },
];

/** One gateway, which is the consumer of its own queue. */
async function withAFile() {
  const redis = await startRedis();
  const gateway = await Gateway.start({ engine: redis.engine, namespaces });
  return { servers: [gateway, redis], near: gateway, far: gateway, archive: gateway };
}

/** Two gateways and a history service, which alone brings into the store what they publish. */
async function withMongo() {
  const [redis, set] = await Promise.all([startRedis(), startReplicaSet()]);
  const history = { store: 'mongo', mongo: { uri: set.uri } };
  const settings = { engine: redis.engine, history, namespaces };
  const archive = await Gateway.start({ command: 'history', ...settings });
  const near = await Gateway.start(settings);
  const far = await Gateway.start(settings);
  return { servers: [near, far, archive, set, redis], near, far, archive };
}

for (const [name, start] of [
  ['a file', withAFile],
  ['MongoDB and a history service', withMongo],
]) {
  describe(`stored in ${name}`, () => {
    let stage;
    let clients;
    before(async () => {
      stage = await start();
      clients = new Clients(stage.near);
    });
    after(async () => {
      for (const server of stage?.servers ?? []) {
        await server.stop();
      }
    });

    for (const codec of everyCodec) {
      for (const options of [{}, { delta: 'fossil' }]) {
        test(`${codec.name}: who was away gets everything once and in order, with ${JSON.stringify(options)}`, async (t) => {
          const line = await Line.to(stage.near.port);
          t.after(() => line.close());
          const client = await clients.connect(t, codec, { endpoint: line.endpoint });
          let received;
          let subscribed;
          const sub = await subscribe(client, uniqueChannel('long'), options, (sub) => {
            received = record(sub, 'publication');
            subscribed = record(sub, 'subscribed');
          });
          await publish(stage.far, sub.channel, 1, 10);
          await received.count(10);
          const subscribing = record(sub, 'subscribing');
          line.cut();
          await subscribing.first();
          await publish(stage.far, sub.channel, 11, MISSED);
          const { publications } = await stage.near.api('history', { channel: sub.channel, limit: 100 });
          assert.equal(publications.length, AT_HAND, 'the rest is nowhere but in the store');
          // Back at another gateway, where there is one.
          line.mend(stage.far.port);
          const context = (await subscribed.count(2, LONG_MS))[1];
          assert.deepEqual([context.wasRecovering, context.recovered], [true, true]);
          await received.count(MISSED, LONG_MS);
          await publish(stage.near, sub.channel, MISSED + 1, MISSED + 5);
          await received.count(MISSED + 5, LONG_MS);
          assert.deepEqual(numbers(codec, received), count(1, MISSED + 5));
          assert.deepEqual(
            received.items.map(({ offset }) => offset),
            count(1, MISSED + 5),
          );
          assert.equal(subscribed.items.length, 2);
        });
      }

      test(`${codec.name}: a position that was written down is enough to come back with`, async (t) => {
        const channel = uniqueChannel('long');
        const first = await clients.connect(t, codec);
        const earlier = await subscribe(first, channel);
        const seen = record(earlier, 'publication');
        await publish(stage.near, channel, 1, 20);
        await seen.count(20);
        const { epoch } = await stage.near.api('history', { channel });
        first.disconnect();
        await publish(stage.near, channel, 21, 700);
        await stored(stage.archive, channel, 700 - AT_HAND);

        const second = await clients.connect(t, codec, { endpoint: stage.far.endpoint });
        let received;
        let subscribed;
        await subscribe(second, channel, { since: { epoch, offset: 20 } }, (sub) => {
          received = record(sub, 'publication');
          subscribed = record(sub, 'subscribed');
        });
        const context = await subscribed.first(LONG_MS);
        assert.deepEqual([context.wasRecovering, context.recovered], [true, true]);
        await received.count(680, LONG_MS);
        assert.deepEqual(numbers(codec, received), count(21, 700));
      });
    }
  });
}

/** Publishes {n: first}..{n: last} in order. */
async function publish(gateway, channel, first, last) {
  for (let from = first; from <= last; from += 500) {
    const size = Math.min(500, last - from + 1);
    const commands = Array.from({ length: size }, (_, index) => ({
      publish: { channel, data: { n: from + index, text: 'the same in every message' } },
    }));
    await gateway.batch(commands);
  }
}

/** Waits until the REST service has so many messages of a channel. */
async function stored(archive, channel, least) {
  const signal = AbortSignal.timeout(LONG_MS);
  const path = `channels/${encodeURIComponent(channel)}`;
  for (;;) {
    const { count } = await archive.history(path).catch(() => ({ count: 0 }));
    if (count >= least) {
      return;
    }
    signal.throwIfAborted();
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

function numbers(codec, received) {
  return received.items.map(({ data }) => codec.unpack(data).n);
}

function count(first, last) {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
