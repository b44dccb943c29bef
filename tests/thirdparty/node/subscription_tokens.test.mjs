// Who may subscribe: tokens for one channel, private channels, channels of named users.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';

import { Clients, everyCodec, subscribe, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';
import { connectionToken, subscriptionToken } from './support/tokens.mjs';
import { PATIENCE_MS, Record, record, recordAll } from './support/waiting.mjs';

/** Seconds a token lives: so many that it is good when it comes, though the machine stands still meanwhile. */
const TTL = 6;
/** Three lives of a token on a machine that is busy. */
const LONG_MS = 45_000;

let gateway;
let clients;
before(async () => {
  // Expired subscriptions are looked for at the interval at which presence is renewed.
  gateway = await Gateway.start({
    client: { presence_update_interval: '1s', expired_sub_close_delay: '8s' },
  });
  clients = new Clients(gateway);
});
after(() => gateway?.stop());

for (const codec of everyCodec) {
  describe(codec.name, { concurrency: true }, () => {
    test('a token opens a closed channel, for publications too', async (t) => {
      const channel = uniqueChannel('closed');
      const client = await clients.connect(t, codec);
      const sub = await subscribe(client, channel, { token: subscriptionToken('anna', channel) });
      const publications = record(sub, 'publication');
      await gateway.publish(channel, { a: 1 });
      assert.deepEqual(codec.unpack((await publications.first()).data), { a: 1 });
    });

    test('a token can come from a callback that is told the channel', async (t) => {
      const channel = uniqueChannel('closed');
      const client = await clients.connect(t, codec);
      await subscribe(client, channel, { getToken: async (context) => subscriptionToken('anna', context.channel) });
    });

    test('data of the token is handed to the subscriber, its info to the others', async (t) => {
      const channel = uniqueChannel('present');
      const client = await clients.connect(t, codec);
      const token = subscriptionToken('anna', channel, { data: { topic: 'birds' }, info: { role: 'host' } });
      let subscribed;
      const sub = await subscribe(client, channel, { token }, (sub) => {
        subscribed = record(sub, 'subscribed');
      });
      assert.deepEqual(codec.unpack((await subscribed.first()).data), { topic: 'birds' });
      const [entry] = Object.values((await sub.presence()).clients);
      assert.deepEqual(codec.unpack(entry.chanInfo), { role: 'host' });
    });

    test('without a valid token a closed channel stays closed', async (t) => {
      const channel = uniqueChannel('closed');
      for (const token of [undefined, 'no token', subscriptionToken('anna', channel, { secret: 'guessed' })]) {
        assert.equal(await refusal(t, codec, channel, { token }), 103, token);
      }
    });

    test('a private channel needs a token even where subscribing is open', async (t) => {
      const channel = `$${uniqueChannel('open')}`;
      assert.equal(await refusal(t, codec, channel), 103);
      const client = await clients.connect(t, codec);
      await subscribe(client, channel, { token: subscriptionToken('anna', channel) });
    });

    test('an unknown namespace is an unknown channel', async (t) => {
      assert.equal(await refusal(t, codec, uniqueChannel('unheardof')), 102);
    });

    test('a name past the limit is refused', async (t) => {
      assert.equal(await refusal(t, codec, `open:${'x'.repeat(255)}`), 107);
    });

    test('a token for another channel or user ends the connection for good', async (t) => {
      const channel = uniqueChannel('closed');
      for (const token of [subscriptionToken('anna', 'closed:other'), subscriptionToken('ben', channel)]) {
        const client = await clients.connect(t, codec);
        const disconnected = record(client, 'disconnected');
        client.newSubscription(channel, { token }).subscribe();
        assert.equal((await disconnected.first()).code, 3500);
      }
    });

    test('an expired token is replaced by a fresh one', async (t) => {
      const channel = uniqueChannel('closed');
      const tokens = [subscriptionToken('anna', channel, { ttl: -10 }), subscriptionToken('anna', channel)];
      const client = await clients.connect(t, codec);
      const sub = client.newSubscription(channel, { getToken: async () => tokens.shift(), minResubscribeDelay: 20, maxResubscribeDelay: 50 });
      sub.on('error', () => {});
      sub.subscribe();
      await sub.ready(PATIENCE_MS);
      assert.deepEqual(tokens, []);
    });

    test('a refreshed token keeps the subscription past the first expiration', async (t) => {
      const channel = uniqueChannel('closed');
      const asked = new Record('token asked for');
      const client = await clients.connect(t, codec);
      let states;
      await subscribe(client, channel, {
        getToken: async () => {
          asked.add('token');
          return subscriptionToken('anna', channel, { ttl: TTL });
        },
      }, (sub) => {
        states = recordAll(sub, 'subscribing', 'subscribed', 'unsubscribed');
      });
      // Without a refresh the subscription is over before the fourth is asked for.
      await asked.count(4, LONG_MS);
      assert.deepEqual(states.items.map(([name]) => name), ['subscribing', 'subscribed']);
    });

    test('a channel of named users is open to them and to nobody else', async (t) => {
      const channel = `${uniqueChannel('users')}#42,43`;
      for (const user of ['42', '43']) {
        await subscribe(await clients.connect(t, codec, { user }), channel);
      }
      assert.equal(await refusal(t, codec, channel, {}, '4'), 103);
      assert.equal(await refusal(t, codec, channel, {}, '42,43'), 103);
    });

    test('channels named by the connection token are subscribed by the server', async (t) => {
      const channels = [uniqueChannel('log'), uniqueChannel('open')];
      const client = clients.make(t, codec, { token: connectionToken('anna', { channels }) });
      const [subscribed, publications] = [record(client, 'subscribed'), record(client, 'publication')];
      client.connect();
      await subscribed.count(2);
      assert.deepEqual(subscribed.items.map(({ channel }) => channel).sort(), [...channels].sort());
      await gateway.publish(channels[1], { a: 1 });
      const publication = await publications.first();
      assert.deepEqual([publication.channel, codec.unpack(publication.data)], [channels[1], { a: 1 }]);
    });
  });
}

/** The code with which a subscription is refused. */
async function refusal(t, codec, channel, options = {}, user = 'anna') {
  const client = await clients.connect(t, codec, { user });
  const sub = client.newSubscription(channel, options);
  const unsubscribed = record(sub, 'unsubscribed');
  sub.subscribe();
  return (await unsubscribed.first()).code;
}
