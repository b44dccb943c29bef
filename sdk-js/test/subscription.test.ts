/** Subscriptions of a client against a server played frame by frame. */

import { describe, expect, expectTypeOf, test, vi } from 'vitest';

import { fossil } from '../src/delta.js';
import { Client, UnauthorizedError, type Publication, type Subscription } from '../src/index.js';
import type { SubscribeResult } from '../src/wire.js';
import { settled } from './support/clock.js';
import { patchBetween } from './support/patch.js';
import { Stage, watch } from './support/wire.js';

const stream = { recoverable: true, positioned: true, epoch: 'e', offset: 3 };

/** Answers the newest subscribe command. */
async function accept(stage: Stage, result: SubscribeResult = {}): Promise<void> {
  await settled();
  await stage.line.reply({ id: stage.line.last('subscribe').id, subscribe: result });
}

function heard<T>(sub: Subscription<T>): T[] {
  const data: T[] = [];
  sub.on('publication', (publication) => data.push(publication.data));
  return data;
}

function states(sub: Subscription): string[] {
  const seen: string[] = [];
  sub.on('state', (state) => seen.push('code' in state ? `${state.name} ${state.code}` : state.name));
  return seen;
}

describe('subscribing', () => {
  test('asks for what the options say', async () => {
    const stage = await new Stage().connected();
    const tagsFilter = { op: 'and' as const, nodes: [{ key: 'ticker', cmp: 'in' as const, vals: ['A'] }] };
    stage.client
      .subscription('a', { token: 't', data: 1, positioned: true, recoverable: true, joinLeave: true, delta: fossil, tagsFilter })
      .subscribe();
    await settled();
    expect(stage.line.last('subscribe').request).toEqual({
      channel: 'a',
      token: 't',
      data: 1,
      positioned: true,
      recoverable: true,
      join_leave: true,
      delta: 'fossil',
      tf: tagsFilter,
      flag: 1,
    });
  });

  test('slow data of an earlier attempt does not take the place of the newest', async () => {
    const answers: ((data: string) => void)[] = [];
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a', { getData: () => new Promise((resolve) => answers.push(resolve)) });
    sub.subscribe().unsubscribe();
    sub.subscribe();
    await settled();
    answers[1]?.('new');
    answers[0]?.('old');
    await settled();
    expect(stage.line.commands.filter((command) => command.subscribe)).toHaveLength(1);
    expect(stage.line.last('subscribe').request.data).toBe('new');
  });

  test('begins after a known place', async () => {
    const stage = await new Stage().connected();
    stage.client.subscription('a', { since: { epoch: 'e', offset: 2 } }).subscribe();
    await settled();
    expect(stage.line.last('subscribe').request).toMatchObject({ recover: true, epoch: 'e', offset: 2 });
  });

  test('pushes by name and by number reach it, in the order of the stream', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    const data = heard(sub);
    await settled();
    await stage.line.reply(
      { id: stage.line.last('subscribe').id, subscribe: { ...stream, id: 9, recovered: true, publications: [{ data: 4, offset: 4 }] } },
      { push: { id: 9, pub: { data: 5, offset: 5 } } },
      { push: { channel: 'a', pub: { data: 6, offset: 6 } } },
      { push: { id: 10, pub: { data: 'of nobody' } } },
    );
    expect(data).toEqual([4, 5, 6]);
    expect(sub.position).toEqual({ epoch: 'e', offset: 6 });
  });

  test('numbers end with the connection', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    const data = heard(sub);
    await accept(stage, { id: 9 });
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.welcome();
    await accept(stage, { id: 8 });
    await stage.line.reply({ push: { id: 9, pub: { data: 'old' } } }, { push: { id: 8, pub: { data: 'new' } } });
    expect(data).toEqual(['new']);
  });

  test('recovers from the last publication, also after being unsubscribed', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    await accept(stage, stream);
    await stage.line.reply({ push: { channel: 'a', pub: { data: 1, offset: 4 } } });
    sub.unsubscribe();
    sub.subscribe();
    await settled();
    expect(stage.line.commands.slice(-2)).toMatchObject([
      { unsubscribe: { channel: 'a' } },
      { subscribe: { recover: true, epoch: 'e', offset: 4 } },
    ]);
  });

  test('says what recovery brought', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    await accept(stage, { ...stream, was_recovering: true, recovered: false, data: { topic: 'x' } });
    expect(sub.state).toEqual({
      name: 'subscribed',
      wasRecovering: true,
      recovered: false,
      recoverable: true,
      positioned: true,
      position: { epoch: 'e', offset: 3 },
      data: { topic: 'x' },
    });
  });

  test('an answer in time is insisted on with a new connection', async () => {
    const stage = await new Stage({ timeout: 1_000 }).connected();
    stage.client.subscription('a').subscribe();
    await settled();
    await stage.clock.advance(1_000);
    expect(stage.client.state).toMatchObject({ name: 'connecting', code: 3, reason: 'subscribe timeout' });
  });

  test('a failed unsubscribe is answered with a new connection', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    await accept(stage);
    sub.unsubscribe();
    await settled();
    await stage.line.reply({ id: stage.line.last('unsubscribe').id, error: { code: 100, message: 'x', temporary: true } });
    expect(stage.client.state).toMatchObject({ name: 'connecting', code: 4 });
  });

  test('an unsubscribe that is lost with the connection needs no other one', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    await accept(stage);
    sub.unsubscribe();
    await settled();
    await stage.line.close(1006);
    // The first attempt's delay, not the second's.
    expect(stage.clock.pending).toEqual([250]);
  });

  test('a position alone is no reason to ask for recovery', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    await accept(stage, { positioned: true, epoch: 'e', offset: 3 });
    sub.unsubscribe();
    sub.subscribe();
    await settled();
    expect(stage.line.last('subscribe').request.recover).toBeUndefined();
  });

  test('one made while connected is subscribed at once', async () => {
    const stage = await new Stage().connected();
    await stage.line.reply({ push: { channel: 'a', pub: { data: 'to nobody' } } });
    stage.client.subscription('a').subscribe();
    await settled();
    expect(stage.line.last('subscribe').request.channel).toBe('a');
  });

  test('there is one subscription per channel', () => {
    const { client } = new Stage();
    const sub = client.subscription('a', { joinLeave: true });
    expect(client.subscription('a')).toBe(sub);
    expect(() => client.subscription('a', {})).toThrow('"a"');
    sub.close();
    expect(client.find('a')).toBeUndefined();
    expect(client.subscription('a')).not.toBe(sub);
  });
});

describe('tokens', () => {
  test('an expired one is replaced, and refreshed while subscribed', async () => {
    const getToken = vi.fn((channel: string) => Promise.resolve(`${channel} ${getToken.mock.calls.length}`));
    const stage = await new Stage().connected();
    stage.client.subscription('a', { token: 'old', getToken }).subscribe();
    await settled();
    await stage.line.reply({ id: stage.line.last('subscribe').id, error: { code: 109, message: 'token expired' } });
    await stage.clock.advance(500);
    expect(stage.line.last('subscribe').request.token).toBe('a 1');
    await accept(stage, { expires: true, ttl: 60 });
    await stage.clock.advance(60_000);
    const { id, request } = stage.line.last('sub_refresh');
    expect(request).toEqual({ channel: 'a', token: 'a 2' });
    await stage.line.reply({ id, sub_refresh: { expires: true, ttl: 30 } });
    expect(stage.clock.pending).toEqual([30_000]);
  });

  test('being unauthorized ends it for good', async () => {
    const stage = await new Stage().connected();
    const getToken = (): Promise<string> => Promise.reject(new UnauthorizedError());
    const sub = stage.client.subscription('a', { getToken }).subscribe();
    await expect(sub.ready()).rejects.toMatchObject({ code: 101 });
    expect(sub.state).toMatchObject({ name: 'unsubscribed', code: 1 });
    expect(stage.clock.pending).toEqual([]);
  });

  test('a token that comes after the connection was lost is used on the next one', async () => {
    const tokens: ((token: string) => void)[] = [];
    const getToken = (): Promise<string> => new Promise((resolve) => tokens.push(resolve));
    const stage = await new Stage().connected();
    stage.client.subscription('a', { getToken }).subscribe();
    await stage.line.close(1006);
    tokens[0]?.('late');
    await stage.clock.advance(500);
    await stage.welcome();
    tokens[1]?.('second');
    await settled();
    expect(stage.line.commands.filter((command) => command.subscribe)).toHaveLength(1);
    expect(stage.line.last('subscribe').request.token).toBe('second');
  });
});

describe('state loaded by the application', () => {
  test('gives the place to begin from, and is loaded again when recovery is impossible', async () => {
    let offset = 10;
    const getState = vi.fn(() => ({ epoch: 'e', offset: (offset += 1) }));
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a', { getState }).subscribe();
    await settled();
    expect(stage.line.last('subscribe').request).toMatchObject({ recover: true, epoch: 'e', offset: 11, flag: 3 });
    await stage.line.reply({ id: stage.line.last('subscribe').id, error: { code: 112, message: 'unrecoverable position' } });
    await stage.clock.advance(500);
    expect(stage.line.last('subscribe').request).toMatchObject({ offset: 12 });
    await accept(stage, { ...stream, offset: 12, recovered: true, was_recovering: true });
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.welcome();
    expect(getState).toHaveBeenCalledTimes(2);
    expect(sub.position).toEqual({ epoch: 'e', offset: 12 });
  });
});

describe('being ended by the server', () => {
  test.each([
    [2000, ['unsubscribed 2000']],
    [2500, ['subscribing 2500', 'subscribed']],
    [2501, ['subscribing 2501', 'subscribed']],
    [2502, ['subscribing 2502', 'subscribed']],
  ])('with code %i', async (code, expected) => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    await accept(stage, stream);
    const seen = states(sub);
    await stage.line.reply({ push: { channel: 'a', unsubscribe: { code, reason: 'r' } } });
    await stage.clock.advance(500);
    if (expected.length > 1) {
      expect(stage.line.last('subscribe').request.recover).toBe(code === 2502 ? undefined : true);
      await accept(stage, stream);
    }
    expect(seen).toEqual(expected);
  });

  test('an end that was meant for the subscription before is not taken for this one', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    await accept(stage, stream);
    sub.unsubscribe();
    sub.subscribe();
    await stage.line.reply({ push: { channel: 'a', unsubscribe: { code: 2500, reason: 'r' } } });
    await accept(stage, stream);
    expect(sub.state.name).toBe('subscribed');
  });
});

describe('publications', () => {
  test('none is heard after unsubscribing, not even the rest of those at hand', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    const data: unknown[] = [];
    sub.on('publication', (publication) => {
      data.push(publication.data);
      sub.unsubscribe();
    });
    await accept(stage, { ...stream, recovered: true, publications: [{ data: 1, offset: 4 }, { data: 2, offset: 5 }] });
    await stage.line.reply({ push: { channel: 'a', pub: { data: 3, offset: 6 } } });
    expect(data).toEqual([1]);
  });

  test('carry who sent them and their tags', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    const seen: Publication[] = [];
    sub.on('publication', (publication) => seen.push(publication));
    await accept(stage);
    const info = { user: 'u', client: 'c', conn_info: 1, chan_info: 2 };
    await stage.line.reply({ push: { channel: 'a', pub: { data: 1, info, tags: { k: 'v' } } } });
    expect(seen).toEqual([
      { channel: 'a', data: 1, offset: undefined, tags: { k: 'v' }, info: { user: 'u', client: 'c', connInfo: 1, chanInfo: 2 } },
    ]);
  });

  test('a schema gives them their form, and what does not fit is an error', async () => {
    const stage = await new Stage().connected();
    const schema = (data: unknown): number => {
      if (typeof data !== 'number') throw new Error('not a number');
      return data;
    };
    const sub = stage.client.subscription('a', { schema: { parse: schema } }).subscribe();
    const data = heard(sub);
    const errors: number[] = [];
    sub.on('error', ({ code }) => errors.push(code));
    await accept(stage, stream);
    await stage.line.reply({ push: { channel: 'a', pub: { data: 'one', offset: 4 } } }, { push: { channel: 'a', pub: { data: 2, offset: 5 } } });
    expect([data, errors]).toEqual([[2], [21]]);
    expect(sub.position?.offset).toBe(5);
  });

  test('patches are applied, and go on after a recovery', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a', { delta: fossil }).subscribe();
    const data = heard(sub);
    await accept(stage, { ...stream, delta: true });
    const [first, second, third] = ['{"a":"äö"}', '{"a":"äü"}', '{"a":"ß"}'] as const;
    await stage.line.reply({ push: { channel: 'a', pub: { data: first, offset: 4 } } });
    await stage.line.reply({ push: { channel: 'a', pub: { data: patchBetween(first, second), delta: true, offset: 5 } } });
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.welcome();
    await accept(stage, { ...stream, offset: 5, delta: true, recovered: true, was_recovering: true });
    await stage.line.reply({ push: { channel: 'a', pub: { data: patchBetween(second, third), delta: true, offset: 6 } } });
    expect(data).toEqual([{ a: 'äö' }, { a: 'äü' }, { a: 'ß' }]);
  });

  test('a patch that does not fit makes it subscribe anew from the last good one', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a', { delta: fossil }).subscribe();
    const data = heard(sub);
    await accept(stage, { ...stream, delta: true });
    await stage.line.reply({ push: { channel: 'a', pub: { data: '"good"', offset: 4 } } });
    await stage.line.reply({ push: { channel: 'a', pub: { data: 'bad', delta: true, offset: 5 } } });
    expect(sub.state).toMatchObject({ name: 'subscribing', code: 6 });
    await stage.clock.advance(500);
    expect(stage.line.commands.slice(-2)).toMatchObject([
      { unsubscribe: { channel: 'a' } },
      { subscribe: { recover: true, offset: 4 } },
    ]);
    expect(data).toEqual(['good']);
  });

  test('what comes behind a patch that does not fit, in the same frame, is not taken for its successor', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a', { delta: fossil }).subscribe();
    const data = heard(sub);
    await accept(stage, { ...stream, delta: true });
    const [bad, whole] = [{ data: 'bad', delta: true, offset: 4 }, { data: '"whole"', offset: 5 }];
    await stage.line.reply({ push: { channel: 'a', pub: bad } }, { push: { channel: 'a', pub: whole } });
    await stage.clock.advance(500);
    expect(stage.line.last('subscribe').request).toMatchObject({ recover: true, offset: 3 });
    expect(data).toEqual([]);
  });
});

describe('for await', () => {
  async function streaming(options = {}): Promise<{ stage: Stage; sub: Subscription; next: () => Promise<unknown>; push: (...data: unknown[]) => Promise<void> }> {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a');
    const iterator = sub.publications(options);
    await accept(stage, stream);
    return {
      stage,
      sub,
      next: async () => (await iterator.next() as { value?: { data: unknown } }).value?.data,
      push: (...data) => stage.line.reply(...data.map((item) => ({ push: { channel: 'a', pub: { data: item } } }))),
    };
  }

  test('gives each publication once, in order, and ends when unsubscribed', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a');
    const data: unknown[] = [];
    const loop = (async () => {
      for await (const publication of sub) data.push(publication.data);
    })();
    await accept(stage, stream);
    await stage.line.reply({ push: { channel: 'a', pub: { data: 1 } } }, { push: { channel: 'a', pub: { data: 2 } } });
    sub.unsubscribe();
    await loop;
    expect(data).toEqual([1, 2]);
  });

  test('a reader that is too slow is told, after what was kept', async () => {
    const { next, push } = await streaming({ buffer: 2 });
    await push(1, 2, 3);
    expect([await next(), await next()]).toEqual([1, 2]);
    await expect(next()).rejects.toMatchObject({ code: 20 });
    expect(await next()).toBeUndefined();
  });

  test('or loses the oldest, if it wants that', async () => {
    const { next, push } = await streaming({ buffer: 2, whenFull: 'dropOldest' });
    await push(1, 2, 3);
    expect([await next(), await next()]).toEqual([2, 3]);
  });

  test('throws when the server ends the subscription for good', async () => {
    const { stage, next } = await streaming();
    const waiting = next();
    waiting.catch(() => undefined);
    await stage.line.reply({ push: { channel: 'a', unsubscribe: { code: 2000, reason: 'server unsubscribe' } } });
    await expect(waiting).rejects.toMatchObject({ code: 2000, message: 'server unsubscribe' });
  });

  test('survives a lost connection', async () => {
    const { stage, next } = await streaming();
    const waiting = watch(next());
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.welcome();
    await accept(stage, { ...stream, was_recovering: true, recovered: true, publications: [{ data: 'missed', offset: 4 }] });
    expect(waiting.outcome).toEqual({ value: 'missed' });
  });

  test('leaving the loop stops listening and keeps the subscription', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a');
    let listeners = 0;
    const on = sub.on.bind(sub);
    sub.on = (name, listener) => {
      const off = on(name, listener as never);
      listeners += 1;
      return () => {
        listeners -= 1;
        off();
      };
    };
    const loop = (async () => {
      for await (const { data } of sub) return data;
      return undefined;
    })();
    expect(listeners).toBe(4);
    await accept(stage, stream);
    await stage.line.reply({ push: { channel: 'a', pub: { data: 1 } } });
    expect(await loop).toBe(1);
    expect(listeners).toBe(0);
    expect(sub.state.name).toBe('subscribed');
  });

  test('of a closed subscription ends at once', async () => {
    const sub = new Stage().client.subscription('a');
    sub.close();
    expect(await sub.publications().next()).toEqual({ value: undefined, done: true });
  });
});

describe('a client that ends for good', () => {
  async function ended(code = 3500): Promise<Stage> {
    const stage = await new Stage().connected();
    await stage.line.close(code, 'invalid token');
    return stage;
  }

  test.each([
    [3500, 3500],
    [1009, 3],
  ])('tells what waits for its subscriptions: close code %i', async (close, code) => {
    const stage = await new Stage().connected();
    const subscribing = stage.client.subscription('a').subscribe();
    const subscribed = stage.client.subscription('b').subscribe();
    await accept(stage, stream);
    const told: unknown[] = [];
    subscribing.on('stranded', (error) => told.push(error.code));
    const waiting = [subscribing.ready(), subscribing.publish(1), subscribed.publications().next()].map(watch);
    await stage.line.close(close, 'invalid token');
    const failed = { outcome: { error: { code, temporary: false } } };
    expect(waiting).toMatchObject([failed, failed, failed]);
    expect(told).toEqual([code]);
    expect([subscribing.state.name, subscribed.state.name]).toEqual(['subscribing', 'subscribing']);
  });

  test('tells at once what asks later', async () => {
    const { client } = await ended();
    const sub = client.subscription('a').subscribe();
    const late = [sub.ready(), sub.publish(1), sub.history(), sub.publications().next(), client.subscription('b').publications().next()];
    await Promise.all(late.map((one) => expect(one).rejects.toMatchObject({ code: 3500 })));
  });

  test('is waited for again once it connects', async () => {
    const stage = await ended();
    const sub = stage.client.subscription('a').subscribe();
    stage.client.connect();
    const ready = watch(sub.ready());
    const next = watch(sub.publications().next());
    await stage.welcome();
    await accept(stage, stream);
    await stage.line.reply({ push: { channel: 'a', pub: { data: 1 } } });
    expect(ready.outcome).toEqual({ value: undefined });
    expect(next.outcome).toMatchObject({ value: { value: { data: 1 } } });
  });

  test('is another thing than one that the application disconnected', async () => {
    const stage = await new Stage().connected();
    const sub = stage.client.subscription('a').subscribe();
    stage.client.disconnect();
    const ready = watch(sub.ready());
    const next = watch(sub.publications().next());
    await settled();
    expect([ready.outcome, next.outcome]).toEqual(['pending', 'pending']);
    await expect(Promise.all([sub.ready(0), stage.clock.advance(0)])).rejects.toMatchObject({ code: 1, temporary: true });
    stage.client.close();
    await settled();
    expect(ready.outcome).toMatchObject({ error: { code: 4 } });
    expect(next.outcome).toMatchObject({ value: { done: true } });
  });
});

test('a channel without a name is refused here, before the server ends the connection over it', async () => {
  const stage = await new Stage().connected();
  const { client } = stage;
  const sub = client.subscription('').subscribe();
  const calls = [sub.ready(), client.publish('', 1), client.history(''), client.presence(''), client.presenceStats(''), client.unsubscribe('')];
  await Promise.all(calls.map((call) => expect(call).rejects.toMatchObject({ code: 21, temporary: false })));
  expect(sub.state).toMatchObject({ name: 'unsubscribed', error: { code: 21 } });
  expect(stage.line.commands.map((command) => Object.keys(command))).toEqual([['id', 'connect']]);
});

test('channels carry what the client was told they carry', () => {
  interface Channels {
    news: { title: string };
    [room: `chat:${string}`]: { text: string };
  }
  const client = new Client<Channels>('ws://server.test', { transport: () => ({ send: () => undefined, close: () => undefined }) });
  expectTypeOf(client.subscription('news')).toEqualTypeOf<Subscription<{ title: string }>>();
  expectTypeOf(client.subscription('chat:lobby')).toEqualTypeOf<Subscription<{ text: string }>>();
  // @ts-expect-error -- no such channel
  client.subscription('other');
  // @ts-expect-error -- not what the channel carries
  client.publish('news', { text: 'x' }).catch(() => undefined);
  const untyped = new Client('ws://server.test', { transport: () => ({ send: () => undefined, close: () => undefined }) });
  expectTypeOf(untyped.subscription('a')).toEqualTypeOf<Subscription>();
  expectTypeOf(untyped.subscription('b', { schema: (data: unknown) => Number(data) })).toEqualTypeOf<Subscription<number>>();
  client.close();
  untyped.close();
});
