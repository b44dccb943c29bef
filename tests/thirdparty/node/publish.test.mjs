// Publishing: what goes in comes out, and only where it may.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Clients, codecs, everyCodec, subscribe, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';
import { record } from './support/waiting.mjs';

const EVERY_BYTE = Uint8Array.from({ length: 256 }, (_, byte) => byte);

let gateway;
let clients;
before(async () => {
  gateway = await Gateway.start();
  clients = new Clients(gateway);
});
after(() => gateway?.stop());

for (const codec of everyCodec) {
  describe(codec.name, { concurrency: true }, () => {
    test('a message reaches the other client and names its author', async (t) => {
      const channel = uniqueChannel('open');
      const [author, reader] = [await clients.connect(t, codec), await clients.connect(t, codec, { user: 'ben' })];
      const sub = await subscribe(reader, channel);
      const publications = record(sub, 'publication');
      const { client } = await identity(t, codec, author);
      await author.publish(channel, codec.pack({ text: 'hello' }));
      const publication = await publications.first();
      assert.deepEqual(codec.unpack(publication.data), { text: 'hello' });
      assert.equal(publication.info.user, 'anna');
      assert.equal(publication.info.client, client);
    });

    test('every kind of JSON value arrives as it was sent', async (t) => {
      const values = [
        { a: { b: [1, 2.5, -3e10, null, true] } }, [], 'two\nlines', '<&>\u2028 ünï \u{1f426}', 42, 0, false, '', {},
      ];
      const client = await clients.connect(t, codec);
      const sub = await subscribe(client, uniqueChannel('open'));
      const publications = record(sub, 'publication');
      for (const value of values) {
        await sub.publish(codec.pack(value));
      }
      const received = await publications.count(values.length);
      assert.deepEqual(received.map(({ data }) => codec.unpack(data)), values);
    });

    test('JSON published with line breaks by the server stays one message', async (t) => {
      const client = await clients.connect(t, codec);
      const sub = await subscribe(client, uniqueChannel('open'));
      const publications = record(sub, 'publication');
      const b64data = Buffer.from('{\n  "a": [\n    1,\r\n    "x\\ny"\n  ]\n}').toString('base64');
      await gateway.publish(sub.channel, undefined, { b64data });
      assert.deepEqual(codec.unpack((await publications.first()).data), { a: [1, 'x\ny'] });
    });

    test('tags travel with the message', async (t) => {
      const client = await clients.connect(t, codec);
      const sub = await subscribe(client, uniqueChannel('open'));
      const publications = record(sub, 'publication');
      await gateway.publish(sub.channel, { a: 1 }, { tags: { ticker: 'BTC', side: 'buy' } });
      assert.deepEqual({ ...(await publications.first()).tags }, { ticker: 'BTC', side: 'buy' });
    });

    test('a channel that takes only objects refuses a string', async (t) => {
      const client = await clients.connect(t, codec);
      await client.publish(uniqueChannel('object'), codec.pack({ a: 1 }));
      await assert.rejects(client.publish(uniqueChannel('object'), codec.pack('text')), { code: 107 });
    });

    test('publishing needs the permission and a known channel', async (t) => {
      const client = await clients.connect(t, codec);
      await assert.rejects(client.publish(uniqueChannel('closed'), codec.pack({})), { code: 103 });
      await assert.rejects(client.publish(uniqueChannel('unheardof'), codec.pack({})), { code: 102 });
    });

    test('a batch leaves in one frame and every command is answered', async (t) => {
      const client = await clients.connect(t, codec);
      const sub = await subscribe(client, uniqueChannel('open'));
      const publications = record(sub, 'publication');
      const sentBefore = client.wire.sent.items.length;
      client.startBatching();
      const published = Array.from({ length: 20 }, (_, n) => sub.publish(codec.pack(n)));
      // The SDK queues a command a few turns after the call.
      await new Promise((resolve) => setImmediate(resolve));
      client.stopBatching();
      await Promise.all(published);
      const received = await publications.count(20);
      assert.equal(client.wire.sent.items.length - sentBefore, 1, 'frames sent');
      assert.deepEqual(received.map(({ data }) => codec.unpack(data)), Array.from({ length: 20 }, (_, n) => n));
    });

    test('nothing arrives after unsubscribing', async (t) => {
      const client = await clients.connect(t, codec);
      const [left, kept] = [await subscribe(client, uniqueChannel('open')), await subscribe(client, uniqueChannel('open'))];
      const [fromLeft, fromKept] = [record(left, 'publication'), record(kept, 'publication')];
      left.unsubscribe();
      // Answered after the unsubscribe, since commands of a connection keep their order.
      await client.publish(left.channel, codec.pack('late'));
      await client.publish(kept.channel, codec.pack('fence'));
      await fromKept.first();
      assert.deepEqual(fromLeft.items, []);
    });
  });
}

test('any bytes travel between Protobuf clients', async (t) => {
  const client = await clients.connect(t, codecs.protobuf);
  const sub = await subscribe(client, uniqueChannel('binary'));
  const publications = record(sub, 'publication');
  await sub.publish(EVERY_BYTE);
  await gateway.publish(sub.channel, undefined, { b64data: Buffer.from(EVERY_BYTE).toString('base64') });
  for (const { data } of await publications.count(2)) {
    assert.deepEqual(Uint8Array.from(data), EVERY_BYTE);
  }
});

test('JSON and Protobuf clients of one channel read each other', async (t) => {
  const channel = uniqueChannel('open');
  for (const [from, to] of [[codecs.json, codecs.protobuf], [codecs.protobuf, codecs.json]]) {
    const [author, reader] = [await clients.connect(t, from), await clients.connect(t, to)];
    const publications = record(await subscribe(reader, channel), 'publication');
    await author.publish(channel, from.pack({ from: from.name }));
    assert.deepEqual(to.unpack((await publications.first()).data), { from: from.name });
  }
});

test('bytes that are no JSON end only the connections that cannot take them', async (t) => {
  const channel = uniqueChannel('binary');
  const [author, able, unable] = [
    await clients.connect(t, codecs.protobuf),
    await clients.connect(t, codecs.protobuf),
    await clients.connect(t, codecs.json),
  ];
  const publications = record(await subscribe(able, channel), 'publication');
  await subscribe(unable, channel);
  const disconnected = record(unable, 'disconnected');
  await author.publish(channel, EVERY_BYTE);
  assert.equal((await disconnected.first()).code, 3506);
  await author.publish(channel, Uint8Array.of(1));
  assert.deepEqual((await publications.count(2)).map(({ data }) => data.length), [256, 1]);
});

/** What the server knows a client as. */
async function identity(t, codec, client) {
  const channel = uniqueChannel('present');
  const sub = await subscribe(client, channel);
  const { clients: present } = await sub.presence();
  return Object.values(present)[0];
}
