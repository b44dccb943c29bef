// Who is in a channel, and who comes and goes.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Clients, everyCodec, subscribe, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';
import { connectionToken } from './support/tokens.mjs';
import { PATIENCE_MS, record, recordAll } from './support/waiting.mjs';

let gateway;
let clients;
before(async () => {
  gateway = await Gateway.start();
  clients = new Clients(gateway);
});
after(() => gateway?.stop());

for (const codec of everyCodec) {
  describe(codec.name, { concurrency: true }, () => {
    test('presence lists every connection with what its token said', async (t) => {
      const channel = uniqueChannel('present');
      const token = connectionToken('anna', { info: { name: 'Anna' } });
      const subs = [];
      for (const options of [{ token }, { token }, { user: 'ben' }]) {
        subs.push(await subscribe(await clients.connect(t, codec, options), channel));
      }
      const { clients: present } = await subs[0].presence();
      const listed = Object.entries(present).map(([id, { client, user, connInfo }]) => {
        assert.equal(id, client);
        return [user, codec.unpack(connInfo)];
      });
      assert.deepEqual(listed.sort(), [['anna', { name: 'Anna' }], ['anna', { name: 'Anna' }], ['ben', undefined]]);
      assert.deepEqual({ ...(await subs[2].presenceStats()) }, { numClients: 3, numUsers: 2 });
    });

    test('presence is refused without permission and absent where it is off', async (t) => {
      const client = await clients.connect(t, codec);
      await assert.rejects(client.presence(uniqueChannel('present')), { code: 103 });
      await assert.rejects(client.presence(uniqueChannel('open')), { code: 108 });
      await assert.rejects(client.presenceStats(uniqueChannel('open')), { code: 108 });
    });

    test('joining comes before leaving, even when a client is gone at once', async (t) => {
      const visitors = 10;
      const observer = await clients.connect(t, codec);
      let events;
      const sub = await subscribe(observer, uniqueChannel('present'), {}, (sub) => {
        events = recordAll(sub, 'join', 'leave');
      });
      await events.count(1);
      for (let n = 0; n < visitors; n += 1) {
        const visitor = await clients.connect(t, codec, { user: `visitor ${n}` });
        const visit = visitor.newSubscription(sub.channel);
        visit.on('subscribed', () => visitor.disconnect());
        visit.subscribe();
      }
      const seen = (await events.count(1 + 2 * visitors)).map(([name, { info }]) => [info.user, name]);
      for (let n = 0; n < visitors; n += 1) {
        const names = seen.filter(([user]) => user === `visitor ${n}`).map(([, name]) => name);
        assert.deepEqual(names, ['join', 'leave'], `visitor ${n}`);
      }
      assert.deepEqual((await sub.presenceStats()).numClients, 1);
    });

    test('a client sees its own arrival after it is subscribed', async (t) => {
      const client = await clients.connect(t, codec);
      let events;
      await subscribe(client, uniqueChannel('present'), {}, (sub) => {
        events = recordAll(sub, 'subscribed', 'join');
      });
      assert.deepEqual((await events.count(2)).map(([name]) => name), ['subscribed', 'join']);
    });

    test('arrivals are pushed only to those that asked, where asking is left to them', async (t) => {
      const channel = uniqueChannel('onrequest');
      const [asking, silent] = [await clients.connect(t, codec), await clients.connect(t, codec)];
      const asked = recordAll(await subscribe(asking, channel, { joinLeave: true }), 'join');
      const sub = await subscribe(silent, channel);
      const unasked = recordAll(sub, 'join', 'publication');
      await subscribe(await clients.connect(t, codec, { user: 'ben' }), channel);
      await asked.find(([, { info }]) => info.user === 'ben');
      await gateway.publish(channel, 'fence');
      await unasked.count(1);
      assert.deepEqual(unasked.items.map(([name]) => name), ['publication']);
    });

    test('unsubscribing and subscribing in a tight loop leaves exactly one entry', async (t) => {
      const client = await clients.connect(t, codec);
      const sub = await subscribe(client, uniqueChannel('present'));
      const unsubscribed = record(sub, 'unsubscribed');
      for (let n = 0; n < 50; n += 1) {
        sub.unsubscribe();
        sub.subscribe();
      }
      await unsubscribed.count(50);
      await sub.ready(PATIENCE_MS);
      const fromClient = Object.keys((await sub.presence()).clients);
      const fromServer = Object.keys((await gateway.api('presence', { channel: sub.channel })).presence);
      assert.equal(fromClient.length, 1);
      assert.deepEqual(fromServer, fromClient);
      sub.unsubscribe();
      // Commands keep their order, so this is answered after the unsubscribe.
      await client.publish(uniqueChannel('open'), codec.pack({}));
      assert.deepEqual((await gateway.api('presence', { channel: sub.channel })).presence, {});
    });
  });
}
