// Archived channels: clients come back from further than streams reach, and over a restart.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Clients, everyCodec, subscribe, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';
import { Line } from './support/proxy.mjs';
import { record } from './support/waiting.mjs';

/** Far more than the stream keeps at hand, and than one recovery without an archive may bring. */
const MISSED = 1_500;
const LONG_MS = 60_000;

let gateway;
let clients;
before(async () => {
  gateway = await Gateway.start({
    namespaces: [
      {
        name: 'long',
        history_archive: true,
        history_size: 5,
        history_ttl: '60s',
        force_recovery: true,
        allowed_delta_types: ['fossil'],
        delta_publish: true,
      },
    ],
  });
  clients = new Clients(gateway);
});
after(() => gateway?.stop());

for (const codec of everyCodec) {
  describe(codec.name, () => {
    for (const options of [{}, { delta: 'fossil' }]) {
      test(`everything missed arrives once and in order, with ${JSON.stringify(options)}`, async (t) => {
        const line = await Line.to(gateway.port);
        t.after(() => line.close());
        const client = await clients.connect(t, codec, { endpoint: line.endpoint });
        let received;
        let subscribed;
        const sub = await subscribe(client, uniqueChannel('long'), options, (sub) => {
          received = record(sub, 'publication');
          subscribed = record(sub, 'subscribed');
        });
        await publish(sub.channel, 1, 10);
        await received.count(10);
        const subscribing = record(sub, 'subscribing');
        line.cut();
        await subscribing.first();
        await publish(sub.channel, 11, MISSED);
        line.mend();
        const context = (await subscribed.count(2))[1];
        assert.deepEqual([context.wasRecovering, context.recovered], [true, true]);
        await received.count(MISSED, LONG_MS);
        await publish(sub.channel, MISSED + 1, MISSED + 5);
        await received.count(MISSED + 5, LONG_MS);
        const numbers = received.items.map(({ data }) => codec.unpack(data).n);
        assert.deepEqual(numbers, Array.from({ length: MISSED + 5 }, (_, index) => index + 1));
        assert.equal(subscribed.items.length, 2);
      });
    }
  });
}

test('a restart of the gateway is invisible to its clients', async (t) => {
  const [codec] = everyCodec;
  const client = await clients.connect(t, codec);
  let received;
  let subscribed;
  const sub = await subscribe(client, uniqueChannel('long'), {}, (sub) => {
    received = record(sub, 'publication');
    subscribed = record(sub, 'subscribed');
  });
  await publish(sub.channel, 1, 20);
  await received.count(20);
  await gateway.restart();
  const context = (await subscribed.count(2, LONG_MS))[1];
  assert.deepEqual([context.wasRecovering, context.recovered], [true, true]);
  await publish(sub.channel, 21, 25);
  await received.count(25, LONG_MS);
  assert.deepEqual(
    received.items.map(({ offset }) => offset),
    Array.from({ length: 25 }, (_, index) => index + 1),
  );
});

/** Publishes {n: first}..{n: last} in order. */
async function publish(channel, first, last) {
  for (let from = first; from <= last; from += 500) {
    const count = Math.min(500, last - from + 1);
    const commands = Array.from({ length: count }, (_, index) => ({
      publish: { channel, data: { n: from + index, text: 'the same in every message' } },
    }));
    await gateway.batch(commands);
  }
}
