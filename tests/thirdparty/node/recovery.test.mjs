// Coming back after a loss: each message once, in order, or a plain word that some are gone.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Clients, everyCodec, subscribe, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';
import { Line } from './support/proxy.mjs';
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
    test('what was published while the line was cut arrives once and in order', async (t) => {
      const { sub, line, received, subscribed } = await overALine(t, codec, 'log');
      await publishNumbers(sub.channel, 1, 5);
      await received.count(5);
      await away(sub, line, () => publishNumbers(sub.channel, 6, 30));
      const context = (await subscribed.count(2))[1];
      assert.deepEqual([context.wasRecovering, context.recovered], [true, true]);
      await publishNumbers(sub.channel, 31, 35);
      await received.count(35);
      assert.deepEqual(numbers(codec, received), count(1, 35));
    });

    test('a line cut while nothing happens is recovered too', async (t) => {
      const { sub, line, received, subscribed } = await overALine(t, codec, 'log');
      await away(sub, line, async () => {});
      const context = (await subscribed.count(2))[1];
      assert.deepEqual([context.wasRecovering, context.recovered], [true, true]);
      await publishNumbers(sub.channel, 1, 1);
      await received.count(1);
      assert.deepEqual(numbers(codec, received), [1]);
    });

    test('a stream of messages survives being disconnected again and again', async (t) => {
      const user = `restless ${codec.name}`;
      const client = await clients.connect(t, codec, { user });
      let subscribed;
      const sub = await subscribe(client, uniqueChannel('log'), {}, (sub) => {
        subscribed = record(sub, 'subscribed');
      });
      const received = record(sub, 'publication');
      const rounds = 5;
      for (let round = 0; round < rounds; round += 1) {
        await subscribed.count(round + 1);
        // Not awaited one by one: the disconnect is to hit the middle of them.
        const publishing = publishNumbers(sub.channel, round * 40 + 1, round * 40 + 40);
        await received.count(round * 40 + 10);
        await gateway.api('disconnect', { user, disconnect: { code: 4000, reason: 'again' } });
        await publishing;
      }
      await received.count(rounds * 40);
      await subscribed.count(rounds + 1);
      await publishNumbers(sub.channel, rounds * 40 + 1, rounds * 40 + 1);
      await received.count(rounds * 40 + 1);
      assert.deepEqual(numbers(codec, received), count(1, rounds * 40 + 1));
      assert.ok(subscribed.items.slice(1).every(({ recovered }) => recovered));
    });

    test('when history has moved on, the client is told that messages are lost', async (t) => {
      const { sub, line, received, subscribed } = await overALine(t, codec, 'short');
      await publishNumbers(sub.channel, 1, 1);
      await received.count(1);
      await away(sub, line, () => publishNumbers(sub.channel, 2, 9));
      const context = (await subscribed.count(2))[1];
      assert.deepEqual([context.wasRecovering, context.recovered], [true, false]);
      assert.equal(context.streamPosition.offset, 9);
      await publishNumbers(sub.channel, 10, 10);
      await received.count(2);
      assert.deepEqual(numbers(codec, received), [1, 10]);
    });

    test('a known position is enough to start from', async (t) => {
      const channel = uniqueChannel('log');
      const { epoch } = await publishNumbers(channel, 1, 5);
      const client = await clients.connect(t, codec);
      let received;
      await subscribe(client, channel, { since: { offset: 2, epoch } }, (sub) => {
        received = record(sub, 'publication');
      });
      await received.count(3);
      assert.deepEqual(numbers(codec, received), [3, 4, 5]);
    });

    test('a position of another life of the channel cannot be recovered', async (t) => {
      const channel = uniqueChannel('log');
      await publishNumbers(channel, 1, 5);
      const client = await clients.connect(t, codec);
      let subscribed;
      await subscribe(client, channel, { since: { offset: 2, epoch: 'another' } }, (sub) => {
        subscribed = record(sub, 'subscribed');
      });
      const { wasRecovering, recovered } = await subscribed.first();
      assert.deepEqual([wasRecovering, recovered], [true, false]);
    });

    test('positioning and recovery are on request where the channel leaves it to the client', async (t) => {
      const client = await clients.connect(t, codec);
      const granted = async (options) => {
        let subscribed;
        await subscribe(client, uniqueChannel('onrequest'), options, (sub) => {
          subscribed = record(sub, 'subscribed');
        });
        const { positioned, recoverable } = await subscribed.first();
        return { positioned, recoverable };
      };
      assert.deepEqual(await granted({}), { positioned: false, recoverable: false });
      assert.deepEqual(await granted({ positioned: true }), { positioned: true, recoverable: false });
      assert.deepEqual(await granted({ recoverable: true }), { positioned: true, recoverable: true });
    });

    test('in cache mode only the newest message is caught up', async (t) => {
      const { sub, line, received, subscribed } = await overALine(t, codec, 'cache');
      await publishNumbers(sub.channel, 1, 1);
      await received.count(1);
      await away(sub, line, () => publishNumbers(sub.channel, 2, 6));
      assert.equal((await subscribed.count(2))[1].recovered, true);
      await received.count(2);
      await publishNumbers(sub.channel, 7, 7);
      await received.count(3);
      assert.deepEqual(numbers(codec, received), [1, 6, 7]);
    });

    test('a cache channel may greet a new subscriber with the newest message', async (t) => {
      const channel = uniqueChannel('autocache');
      await publishNumbers(channel, 1, 3);
      const client = await clients.connect(t, codec);
      let received;
      await subscribe(client, channel, {}, (sub) => {
        received = record(sub, 'publication');
      });
      await received.count(1);
      assert.deepEqual(numbers(codec, received), [3]);
    });

    test('a channel subscribed by the token recovers as well', async (t) => {
      const channel = uniqueChannel('log');
      const line = await Line.to(gateway.port);
      t.after(() => line.close());
      const token = connectionToken('anna', { channels: [channel] });
      const client = clients.make(t, codec, { token, endpoint: line.endpoint });
      const [received, subscribed] = [record(client, 'publication'), record(client, 'subscribed')];
      client.connect();
      await subscribed.first();
      const connecting = record(client, 'connecting');
      line.cut();
      await connecting.first();
      await publishNumbers(channel, 1, 10);
      line.mend();
      assert.equal((await subscribed.count(2))[1].recovered, true);
      await received.count(10);
      assert.deepEqual(numbers(codec, received), count(1, 10));
    });
  });
}

describe('a restart', () => {
  for (const codec of everyCodec) {
    test(`of a gateway without storage is reported as a loss, ${codec.name}`, async (t) => {
      const own = await Gateway.start();
      t.after(() => own.stop());
      const client = await new Clients(own).connect(t, codec);
      let events;
      const sub = await subscribe(client, uniqueChannel('log'), {}, (sub) => {
        events = recordAll(sub, 'subscribed');
      });
      await own.publish(sub.channel, 1);
      const connecting = record(client, 'connecting');
      await own.restart();
      assert.equal((await connecting.first()).code, 3001, 'the shutdown is announced');
      const [, context] = (await events.count(2))[1];
      assert.deepEqual([context.wasRecovering, context.recovered], [true, false]);
    });
  }
});

/** A subscription of a client whose line to the gateway can be cut. */
async function overALine(t, codec, namespace) {
  const line = await Line.to(gateway.port);
  t.after(() => line.close());
  const client = await clients.connect(t, codec, { endpoint: line.endpoint });
  let received;
  let subscribed;
  const sub = await subscribe(client, uniqueChannel(namespace), {}, (sub) => {
    received = record(sub, 'publication');
    subscribed = record(sub, 'subscribed');
  });
  return { sub, line, received, subscribed };
}

/** Does something while the subscription is away from the gateway. */
async function away(sub, line, work) {
  const subscribing = record(sub, 'subscribing');
  line.cut();
  await subscribing.first();
  await work();
  line.mend();
}

/** Publishes first..last one after another; returns the position of the last. */
async function publishNumbers(channel, first, last) {
  let position;
  for (const n of count(first, last)) {
    position = await gateway.publish(channel, n);
  }
  return position;
}

function numbers(codec, received) {
  return received.items.map(({ data }) => codec.unpack(data));
}

function count(first, last) {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}
