/** What an application can rely on, whichever server it talks to. */

import { randomUUID } from 'node:crypto';

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import { Client, EventLog, type Subscription, type SubscriptionOptions, type SubscriptionState } from '../../src/index.js';
import { Seen } from '../support/seen.js';
import type { Server, Way } from '../support/server.js';

/** A channel of the namespace `log` that no other test uses. */
export function unique(namespace = 'log'): string {
  return `${namespace}:${randomUUID()}`;
}

export function data<T>(sub: Subscription<T>): Seen<T> {
  return new Seen(`publications of ${sub.channel}`, (add) => sub.on('publication', (publication) => add(publication.data)));
}

export function subscriptions(sub: Subscription): Seen<Extract<SubscriptionState, { name: 'subscribed' }>> {
  return new Seen(`subscribed of ${sub.channel}`, (add) => sub.on('subscribed', add));
}

export function connects(client: Client): Seen<unknown> {
  return new Seen('connected', (add) => client.on('connected', add));
}

export async function publishNumbers(server: Server, channel: string, first: number, last: number): Promise<void> {
  for (const number of numbers(first, last)) {
    await server.publish(channel, number);
  }
}

export function numbers(first: number, last: number): number[] {
  return Array.from({ length: last - first + 1 }, (_, index) => first + index);
}

/** Does something while the line is cut and the client knows it. */
export async function away(way: Way, client: Client, work: () => Promise<void>): Promise<void> {
  const lost = new Seen('connecting', (add) => client.on('connecting', add));
  way.cut();
  await lost.count(1);
  await work();
  way.mend();
}

export function scenarios(name: string, start: () => Promise<Server>): void {
  describe(name, () => {
    let server: Server;
    beforeAll(async () => {
      server = await start();
    });
    afterEach(() => server.sweep());
    afterAll(() => server.stop());

    async function connected(user = 'anna'): Promise<{ client: Client; way: Way }> {
      const way = await server.way();
      const client = way.client({ token: server.token(user) });
      client.connect();
      await client.ready();
      return { client, way };
    }

    async function subscribed(client: Client, channel = unique(), options: SubscriptionOptions = {}): Promise<Subscription> {
      const sub = client.subscription(channel, options);
      sub.subscribe();
      await sub.ready();
      return sub;
    }

    test('two clients talk', async () => {
      const [anna, bert] = [(await connected('anna')).client, (await connected('bert')).client];
      const sub = await subscribed(anna);
      const heard = data(sub);
      const other = await subscribed(bert, sub.channel);
      await other.publish({ text: 'hello', odd: '\n"\u2028ü' });
      await bert.publish(sub.channel, [1, null]);
      expect(await heard.count(2)).toEqual([{ text: 'hello', odd: '\n"\u2028ü' }, [1, null]]);
    });

    test('what was published while the line was cut arrives once and in order', async () => {
      const { client, way } = await connected();
      const sub = await subscribed(client);
      const [heard, again] = [data(sub), subscriptions(sub)];
      await publishNumbers(server, sub.channel, 1, 5);
      await heard.count(5);
      await away(way, client, () => publishNumbers(server, sub.channel, 6, 30));
      // The missed ones lie behind the position that is told, and the subscription's own is at their end.
      expect((await again.count(1))[0]).toMatchObject({ wasRecovering: true, recovered: true, position: { offset: 5 } });
      await heard.count(30);
      expect(sub.position).toMatchObject({ offset: 30 });
      await publishNumbers(server, sub.channel, 31, 35);
      await heard.count(35);
      expect(heard.items).toEqual(numbers(1, 35));
    });

    test('a stream of messages survives being disconnected in the middle of it', async () => {
      const user = randomUUID();
      const { client } = await connected(user);
      const sub = await subscribed(client);
      const [heard, again] = [data(sub), subscriptions(sub)];
      for (const round of [1, 2, 3]) {
        const publishing = publishNumbers(server, sub.channel, round * 40 - 39, round * 40);
        await heard.count(round * 40 - 30);
        await server.disconnect(user, 4000);
        await publishing;
        await again.count(round);
      }
      await heard.count(120);
      expect(heard.items).toEqual(numbers(1, 120));
    });

    test('unsubscribing and subscribing again recovers too', async () => {
      const { client } = await connected();
      const sub = await subscribed(client);
      const heard = data(sub);
      await publishNumbers(server, sub.channel, 1, 1);
      await heard.count(1);
      sub.unsubscribe();
      await publishNumbers(server, sub.channel, 2, 3);
      sub.subscribe();
      await heard.count(3);
      expect(heard.items).toEqual([1, 2, 3]);
    });

    test('for await gives every message across a lost connection', async () => {
      const { client, way } = await connected();
      const sub = await subscribed(client);
      const seen: unknown[] = [];
      const loop = (async () => {
        for await (const publication of sub) {
          seen.push(publication.data);
          if (seen.length === 20) return;
        }
      })();
      await publishNumbers(server, sub.channel, 1, 5);
      await away(way, client, () => publishNumbers(server, sub.channel, 6, 15));
      await publishNumbers(server, sub.channel, 16, 20);
      await loop;
      expect(seen).toEqual(numbers(1, 20));
    });

    test('history can be read both ways and from a place', async () => {
      const { client } = await connected();
      const sub = await subscribed(client);
      const heard = data(sub);
      await publishNumbers(server, sub.channel, 1, 6);
      await heard.count(6);
      const all = await sub.history({ limit: -1 });
      expect(all.publications.map(({ data, offset }) => [data, offset])).toEqual(numbers(1, 6).map((n) => [n, n]));
      expect(all.position).toEqual(sub.position);
      const newest = await client.history(sub.channel, { limit: 2, reverse: true });
      expect(newest.publications.map(({ data }) => data)).toEqual([6, 5]);
      const since = { epoch: all.position.epoch, offset: 4 };
      expect((await sub.history({ limit: 10, since })).publications.map(({ data }) => data)).toEqual([5, 6]);
      expect((await sub.history()).publications).toEqual([]);
      await expect(sub.history({ limit: 1, since: { epoch: 'other', offset: 1 } })).rejects.toMatchObject({ code: 112 });
    });

    test('a known place is enough to begin from', async () => {
      const channel = unique();
      const { client } = await connected();
      const first = await subscribed(client, channel);
      const heard = data(first);
      await publishNumbers(server, channel, 1, 5);
      await heard.count(5);
      const { client: other } = await connected('bert');
      const since = { epoch: first.position!.epoch, offset: 2 };
      const sub = other.subscription(channel, { since });
      const late = data(sub);
      sub.subscribe();
      await late.count(3);
      expect(late.items).toEqual([3, 4, 5]);
    });

    test('an application that loads its own state gets what came after it', async () => {
      const channel = unique();
      const { client } = await connected();
      const first = await subscribed(client, channel);
      await publishNumbers(server, channel, 1, 4);
      const position = { epoch: first.position!.epoch, offset: 3 };
      const sub = (await connected('bert')).client.subscription(channel, { getState: () => Promise.resolve(position) });
      const heard = data(sub);
      sub.subscribe();
      expect(await heard.count(1)).toEqual([4]);
    });

    test('the server may end a subscription', async () => {
      const user = randomUUID();
      const { client } = await connected(user);
      const sub = await subscribed(client);
      const ended = new Seen('unsubscribed', (add) => sub.on('unsubscribed', add));
      await server.unsubscribe(user, sub.channel);
      expect((await ended.count(1))[0]).toMatchObject({ code: 2000, error: { code: 2000 } });
      await expect(sub.ready()).rejects.toMatchObject({ code: 2000 });
    });

    test.each([
      [4000, 'connected'],
      [4500, 'disconnected'],
    ])('after close code %i the client is %s in the end', async (code, name) => {
      const user = randomUUID();
      const { client } = await connected(user);
      const ended = new Seen('end', (add) => {
        client.on('connected', add);
        return client.on('disconnected', add);
      });
      await server.disconnect(user, code);
      expect((await ended.count(1))[0]).toMatchObject({ name });
    });

    test('many subscriptions at once all come about', async () => {
      const { client } = await connected();
      await Promise.all(numbers(1, 100).map(() => subscribed(client)));
    });

    test('subscribing and unsubscribing in quick succession ends in what was asked for last', async () => {
      const { client } = await connected();
      const sub = client.subscription(unique());
      const heard = data(sub);
      numbers(1, 20).forEach(() => {
        sub.subscribe();
        sub.unsubscribe();
      });
      sub.subscribe();
      await sub.ready();
      await publishNumbers(server, sub.channel, 1, 3);
      await heard.count(3);
      expect(heard.items).toEqual([1, 2, 3]);
    });

    test('the event log of a session has no token in it', async () => {
      const log = new EventLog();
      const way = await server.way();
      const token = server.token('a user with a token');
      const client = way.client({ token, log: log.add });
      client.connect();
      await subscribed(client);
      expect(log.entries.length).toBeGreaterThan(3);
      expect(JSON.stringify(log.entries)).not.toContain(token);
    });

    test('a closed client can be forgotten', async () => {
      const { client } = await connected();
      const sub = await subscribed(client);
      client.close();
      await expect(sub.publish(1)).rejects.toMatchObject({ code: 4 });
      await expect(client.presence('x')).rejects.toMatchObject({ code: 4 });
    });
  });
}
