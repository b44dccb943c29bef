// What saves bytes on the wire: deltas, channel numbers, filters. Checked on the raw frames, since
// the SDK hides whether any of it happened.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Clients, codecs, everyCodec, subscribe, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';
import { Line } from './support/proxy.mjs';
import { record } from './support/waiting.mjs';

let gateway;
let clients;
before(async () => {
  gateway = await Gateway.start();
  clients = new Clients(gateway);
});
after(() => gateway?.stop());

for (const codec of everyCodec) {
  describe(codec.name, { concurrency: true }, () => {
    test('deltas decode to the originals, and most messages travel as one', async (t) => {
      const client = await clients.connect(t, codec);
      const sub = await subscribe(client, uniqueChannel('delta'), { delta: 'fossil' });
      const received = record(sub, 'publication');
      const documents = Array.from({ length: 20 }, (_, n) => document(n));
      await publishAll(sub.channel, documents);
      await received.count(documents.length);
      assert.deepEqual(received.items.map(({ data }) => codec.unpack(data)), documents);
      const marks = publicationsOnWire(client).map(({ delta }) => Boolean(delta));
      assert.deepEqual(marks, [false, ...Array(documents.length - 1).fill(true)]);
      const { numDeltaPayloads, bytesReceived, bytesDecoded } = sub.deltaStats();
      assert.equal(numDeltaPayloads, documents.length - 1);
      assert.ok(bytesReceived < bytesDecoded / 2, `${bytesReceived} of ${bytesDecoded} bytes`);
    });

    test('a message with nothing in common with the one before travels in full', async (t) => {
      const client = await clients.connect(t, codec);
      const sub = await subscribe(client, uniqueChannel('delta'), { delta: 'fossil' });
      const received = record(sub, 'publication');
      const documents = [document(0), 'short', [1, 2, 3], document(1), document(2)];
      await publishAll(sub.channel, documents);
      await received.count(documents.length);
      assert.deepEqual(received.items.map(({ data }) => codec.unpack(data)), documents);
      assert.ok(!publicationsOnWire(client)[1].delta);
    });

    test('deltas go on after a cut line', async (t) => {
      const line = await Line.to(gateway.port);
      t.after(() => line.close());
      const client = await clients.connect(t, codec, { endpoint: line.endpoint });
      const sub = await subscribe(client, uniqueChannel('delta'), { delta: 'fossil' });
      const [received, subscribing] = [record(sub, 'publication'), record(sub, 'subscribing')];
      const documents = Array.from({ length: 12 }, (_, n) => document(n));
      await publishAll(sub.channel, documents.slice(0, 4));
      await received.count(4);
      line.cut();
      await subscribing.first();
      await publishAll(sub.channel, documents.slice(4, 8));
      line.mend();
      await received.count(8);
      await publishAll(sub.channel, documents.slice(8));
      await received.count(12);
      assert.deepEqual(received.items.map(({ data }) => codec.unpack(data)), documents);
      const recovered = client.wire.replies.items.findLast(({ subscribe }) => subscribe).subscribe;
      assert.deepEqual(recovered.publications.map(({ delta }) => Boolean(delta)), [false, true, true, true]);
      assert.deepEqual(publicationsOnWire(client).slice(4).map(({ delta }) => Boolean(delta)), Array(4).fill(true));
    });

    test('deltas are left out where nobody asked or the channel does not allow them', async (t) => {
      const client = await clients.connect(t, codec);
      const subs = [
        await subscribe(client, uniqueChannel('delta')),
        await subscribe(client, uniqueChannel('log'), { delta: 'fossil' }),
      ];
      for (const sub of subs) {
        const received = record(sub, 'publication');
        await publishAll(sub.channel, [document(0), document(1)]);
        await received.count(2);
        assert.deepEqual(received.items.map(({ data }) => codec.unpack(data)), [document(0), document(1)]);
      }
      assert.ok(publicationsOnWire(client).every(({ delta }) => !delta));
    });

    const sellBelow100 = { op: 'and', nodes: [
      { op: 'not', nodes: [{ key: 'side', cmp: 'eq', val: 'buy' }] },
      { key: 'price', cmp: 'lt', val: '100' },
    ] };
    for (const [title, tagsFilter, expected] of [
      ['equality', { key: 'ticker', cmp: 'eq', val: 'BTC' }, [0, 1]],
      ['a set', { key: 'ticker', cmp: 'in', vals: ['ETH', 'SOL'] }, [2, 3]],
      ['presence of a tag', { key: 'side', cmp: 'nex' }, [3]],
      ['text', { key: 'ticker', cmp: 'sw', val: 'S' }, [3]],
      ['numbers, not text', { key: 'price', cmp: 'gte', val: '99.5' }, [0, 2]],
      ['a combination', sellBelow100, [1, 3]],
    ]) {
      test(`a filter by ${title} lets only matching messages through`, async (t) => {
        const channel = uniqueChannel('tags');
        const client = await clients.connect(t, codec);
        const sub = await subscribe(client, channel, { tagsFilter });
        const unfiltered = await subscribe(await clients.connect(t, codec), channel);
        const [filtered, all] = [record(sub, 'publication'), record(unfiltered, 'publication')];
        const tags = [
          { ticker: 'BTC', side: 'buy', price: '1000' },
          { ticker: 'BTC', side: 'sell', price: '99' },
          { ticker: 'ETH', side: 'buy', price: '99.5' },
          { ticker: 'SOL', price: '9' },
        ];
        for (const [n, tag] of tags.entries()) {
          await gateway.publish(channel, n, { tags: tag });
        }
        await filtered.count(expected.length);
        await all.count(tags.length);
        assert.deepEqual(filtered.items.map(({ data }) => codec.unpack(data)), expected);
        // Filtered messages are no gap: the subscription was never thrown back.
        assert.equal(sub.state, 'subscribed');
      });
    }

    test('recovery passes through the filter too', async (t) => {
      const line = await Line.to(gateway.port);
      t.after(() => line.close());
      const client = await clients.connect(t, codec, { endpoint: line.endpoint });
      let subscribed;
      const sub = await subscribe(client, uniqueChannel('tags'), { tagsFilter: { key: 'keep', cmp: 'ex' } }, (sub) => {
        subscribed = record(sub, 'subscribed');
      });
      const [received, subscribing] = [record(sub, 'publication'), record(sub, 'subscribing')];
      line.cut();
      await subscribing.first();
      for (let n = 0; n < 10; n += 1) {
        await gateway.publish(sub.channel, n, { tags: n % 3 === 0 ? { keep: 'yes' } : {} });
      }
      line.mend();
      assert.equal((await subscribed.count(2))[1].recovered, true);
      await gateway.publish(sub.channel, 10, { tags: { keep: 'yes' } });
      await received.count(5);
      assert.deepEqual(received.items.map(({ data }) => codec.unpack(data)), [0, 3, 6, 9, 10]);
    });

    test('a filter is refused where it is not allowed or makes no sense', async (t) => {
      const client = await clients.connect(t, codec);
      for (const [namespace, tagsFilter] of [
        ['log', { key: 'a', cmp: 'eq', val: 'b' }],
        ['tags', { key: 'a', cmp: 'eq' }],
        ['tags', { op: 'not', nodes: [] }],
      ]) {
        const sub = client.newSubscription(uniqueChannel(namespace), { tagsFilter });
        const unsubscribed = record(sub, 'unsubscribed');
        sub.subscribe();
        assert.equal((await unsubscribed.first()).code, 107, JSON.stringify(tagsFilter));
      }
    });
  });
}

test('pushes name a channel by number once the client can take that', async (t) => {
  const { one, other, replies } = await pushedToTwoChannels(t, codecs.json);
  const numbers = replies.filter(({ subscribe }) => subscribe).map(({ subscribe }) => subscribe.id);
  assert.ok(numbers.every((id) => id > 0), `${numbers}`);
  assert.notEqual(numbers[0], numbers[1]);
  const pushes = replies.filter(({ push }) => push).map(({ push }) => push);
  assert.ok(pushes.every(({ channel }) => channel === undefined), `${one.channel}, ${other.channel}`);
  assert.deepEqual(pushes.filter(({ pub }) => pub).map(({ id }) => id), numbers);
});

test('pushes over Protobuf name the channel, although the SDK asks for numbers', async (t) => {
  // The SDK decodes such a number into an object and compares it by identity, so no push would
  // find its subscription.
  const { one, other, replies } = await pushedToTwoChannels(t, codecs.protobuf);
  assert.ok(replies.every(({ subscribe }) => subscribe?.id === undefined));
  const pushes = replies.filter(({ push }) => push?.pub).map(({ push }) => push.channel);
  assert.deepEqual(pushes, [one.channel, other.channel]);
});

/** A client that saw a publication in each of two channels, and the replies it was sent. */
async function pushedToTwoChannels(t, codec) {
  const client = await clients.connect(t, codec);
  const [one, other] = [await subscribe(client, uniqueChannel('present')), await subscribe(client, uniqueChannel('open'))];
  const publications = [record(one, 'publication'), record(other, 'publication')];
  await gateway.publish(one.channel, 1);
  await gateway.publish(other.channel, 2);
  await Promise.all(publications.map((received) => received.count(1)));
  return { one, other, replies: client.wire.replies.items };
}

/** A document of some size that changes little from one number to the next. */
function document(n) {
  const rows = Array.from({ length: 12 }, (_, row) => ({ row, name: `Grüße ${row} \u{1f426}`, price: 100 + row }));
  rows[n % rows.length].price += n;
  return { n, rows };
}

async function publishAll(channel, values) {
  for (const value of values) {
    await gateway.publish(channel, value);
  }
}

function publicationsOnWire(client) {
  return client.wire.replies.items.map(({ push }) => push?.pub).filter(Boolean);
}
