// Reading a channel's history.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Clients, everyCodec, subscribe, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';

let gateway;
let clients;
before(async () => {
  gateway = await Gateway.start();
  clients = new Clients(gateway);
});
after(() => gateway?.stop());

for (const codec of everyCodec) {
  describe(codec.name, { concurrency: true }, () => {
    test('the newest part, the oldest part and everything in between can be asked for', async (t) => {
      const sub = await filled(t, codec, 10);
      const offsets = async (options) => (await sub.history(options)).publications.map(({ offset }) => offset);
      const { epoch, offset } = await sub.history({ limit: 0 });
      assert.equal(offset, 10);

      assert.deepEqual(await offsets({ limit: 0 }), []);
      assert.deepEqual(await offsets({ limit: -1 }), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
      assert.deepEqual(await offsets({ limit: 3 }), [1, 2, 3]);
      assert.deepEqual(await offsets({ limit: 3, reverse: true }), [10, 9, 8]);
      assert.deepEqual(await offsets({ limit: 3, since: { offset: 4, epoch } }), [5, 6, 7]);
      assert.deepEqual(await offsets({ limit: 3, since: { offset: 4, epoch }, reverse: true }), [3, 2, 1]);
      assert.deepEqual(await offsets({ limit: -1, since: { offset: 10, epoch } }), []);
    });

    test('entries carry data, tags and offset', async (t) => {
      const sub = await filled(t, codec, 2);
      const { publications } = await sub.history({ limit: -1 });
      assert.deepEqual(publications.map(({ data }) => codec.unpack(data)), [{ n: 1 }, { n: 2 }]);
      assert.deepEqual(publications.map(({ tags }) => ({ ...tags })), [{ n: '1' }, { n: '2' }]);
    });

    test('a position of another life of the channel is refused', async (t) => {
      const sub = await filled(t, codec, 2);
      await assert.rejects(sub.history({ limit: 1, since: { offset: 1, epoch: 'another' } }), { code: 112 });
    });

    test('an empty history still has an epoch', async (t) => {
      const sub = await filled(t, codec, 0);
      const { publications, offset, epoch } = await sub.history({ limit: -1 });
      assert.deepEqual([publications, offset], [[], 0]);
      assert.ok(epoch.length > 0);
    });

    test('removing the history keeps offsets and epoch', async (t) => {
      const sub = await filled(t, codec, 3);
      const { epoch } = await sub.history({ limit: 0 });
      await gateway.api('history_remove', { channel: sub.channel });
      await gateway.publish(sub.channel, { n: 4 });
      const kept = await sub.history({ limit: -1 });
      assert.deepEqual([kept.publications.map(({ offset }) => offset), kept.epoch], [[4], epoch]);
    });

    test('history is refused without permission and absent where it is off', async (t) => {
      const client = await clients.connect(t, codec);
      await assert.rejects(client.history(uniqueChannel('log'), { limit: 1 }), { code: 103 });
      await assert.rejects(client.history(uniqueChannel('open'), { limit: 1 }), { code: 108 });
      await assert.rejects(client.history(uniqueChannel('unheardof'), { limit: 1 }), { code: 102 });
    });
  });
}

/** A subscription to a channel that holds `count` numbered publications. */
async function filled(t, codec, count) {
  const channel = uniqueChannel('log');
  for (let n = 1; n <= count; n += 1) {
    await gateway.publish(channel, { n }, { tags: { n: `${n}` } });
  }
  return subscribe(await clients.connect(t, codec), channel);
}
