/** A client against a server played frame by frame, with a clock that moves when told to. */

import { describe, expect, test, vi } from 'vitest';

import { BobolinkError, Client, EventLog, UnauthorizedError } from '../src/index.js';
import { settled } from './support/clock.js';
import { Stage, watch } from './support/wire.js';

describe('connecting', () => {
  test('connect and subscribe leave in one frame, connect first', async () => {
    const stage = new Stage({ token: 't', name: 'app', version: '1', data: { device: 'phone' } });
    stage.client.subscription('a').subscribe();
    stage.client.subscription('b').subscribe();
    stage.client.connect();
    await stage.line.open();
    expect(stage.line.frames).toHaveLength(1);
    expect(stage.line.commands).toMatchObject([
      { id: 1, connect: { token: 't', name: 'app', version: '1', data: { device: 'phone' } } },
      { id: 2, subscribe: { channel: 'a', flag: 1 } },
      { id: 3, subscribe: { channel: 'b', flag: 1 } },
    ]);
  });

  test('commands given while connecting wait for the welcome, and leave together', async () => {
    const stage = new Stage();
    stage.client.connect();
    const results = [stage.client.publish('a', 1), stage.client.rpc('m', { x: 1 }), stage.client.send('s')];
    await stage.line.open();
    expect(stage.line.commands).toHaveLength(1);
    await stage.line.reply({ id: stage.line.last('connect').id, connect: { client: 'c' } });
    expect(stage.line.frames).toHaveLength(2);
    expect(stage.line.commands.slice(1)).toEqual([
      { id: 1, publish: { channel: 'a', data: 1 } },
      { id: 2, rpc: { method: 'm', data: { x: 1 } } },
      { send: { data: 's' } },
    ]);
    await stage.line.reply({ id: 1, publish: {} }, { id: 2, rpc: { data: 'r' } });
    expect(await Promise.all(results)).toEqual([undefined, 'r', undefined]);
  });

  test('frames stay below what servers accept by default', async () => {
    const stage = await new Stage().connected();
    const sending = Array.from({ length: 40 }, () => stage.client.send('ü'.repeat(1_000)));
    await Promise.all(sending);
    const frames = stage.line.frames.slice(1);
    expect(frames.length).toBeGreaterThan(1);
    expect(Math.max(...frames.map((frame) => Buffer.byteLength(frame)))).toBeLessThan(65_536);
  });

  test('a token is asked for only when there is none', async () => {
    const getToken = vi.fn(() => Promise.resolve('fresh'));
    const stage = new Stage({ token: 'first', getToken });
    stage.client.connect();
    await stage.line.open();
    expect(stage.line.last('connect').request.token).toBe('first');
    await stage.line.reply({ id: 1, error: { code: 109, message: 'token expired' } });
    await stage.clock.advance(500);
    await stage.line.open();
    expect(stage.line.last('connect').request.token).toBe('fresh');
    expect(getToken).toHaveBeenCalledTimes(1);
    await stage.line.close(1006);
    await stage.clock.advance(1_000);
    expect(getToken).toHaveBeenCalledTimes(1);
  });

  test.each([
    ['throws UnauthorizedError', () => Promise.reject(new UnauthorizedError())],
    ['gives an empty token', () => ''],
  ])('a token callback that %s ends the attempts', async (_, getToken) => {
    const stage = new Stage({ getToken });
    stage.client.connect();
    const ready = stage.client.ready();
    await expect(ready).rejects.toMatchObject({ code: 101, temporary: false });
    expect(stage.client.state).toMatchObject({ name: 'disconnected', code: 1, reason: 'unauthorized' });
    expect(stage.clock.pending).toEqual([]);
  });

  test('a token callback that fails is asked again', async () => {
    const getToken = vi.fn<() => string>().mockImplementationOnce(() => {
      throw new Error('backend down');
    });
    getToken.mockReturnValue('t');
    const stage = new Stage({ getToken });
    stage.client.connect();
    await settled();
    expect(stage.events.find(([name]) => name === 'error')?.[1]).toMatchObject({ code: 5, temporary: true });
    await stage.clock.advance(500);
    await stage.welcome();
    expect(stage.client.state.name).toBe('connected');
  });

  test('data is asked for before every attempt', async () => {
    let count = 0;
    const stage = new Stage({ getData: () => Promise.resolve(++count) });
    stage.client.connect();
    await settled();
    await stage.line.open();
    expect(stage.line.last('connect').request.data).toBe(1);
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.line.open();
    expect(stage.line.last('connect').request.data).toBe(2);
  });

  test('slow data of an earlier attempt does not take the place of the newest', async () => {
    const answers: ((data: string) => void)[] = [];
    const stage = new Stage({ getData: () => new Promise((resolve) => answers.push(resolve)) });
    stage.client.connect();
    await stage.network('offline');
    await stage.network('online');
    answers[1]?.('new');
    await settled();
    answers[0]?.('old');
    await settled();
    await stage.line.open();
    expect(stage.line.last('connect').request.data).toBe('new');
  });

  test('after an invalid token the next connect asks for another', async () => {
    const stage = new Stage({ token: 'forged', getToken: () => 'good' });
    stage.client.connect();
    await stage.line.open();
    await stage.line.close(3500, 'invalid token');
    stage.client.connect();
    await settled();
    await stage.line.open();
    expect(stage.line.last('connect').request.token).toBe('good');
  });

  test('no welcome in time counts as a failure', async () => {
    const stage = new Stage({ timeout: 2_000 });
    stage.client.connect();
    await stage.line.open();
    const { line } = stage;
    await stage.clock.advance(2_000);
    expect(line.closed).toBe(true);
    await stage.clock.advance(500);
    expect(stage.lines).toHaveLength(2);
  });

  test('a transport that cannot be opened is tried again', async () => {
    const transport = vi.fn(() => {
      throw new Error('refused');
    });
    const stage = new Stage({ transport });
    stage.client.connect();
    expect(stage.client.state.name).toBe('connecting');
    await stage.clock.advance(500);
    expect(transport).toHaveBeenCalledTimes(2);
  });

  test('a missing WebSocket is named', async () => {
    vi.stubGlobal('WebSocket', undefined);
    const client = new Client('ws://server.test');
    const error = new Promise<BobolinkError>((resolve) => client.on('error', resolve));
    client.connect();
    expect((await error).cause).toMatchObject({ message: expect.stringContaining('"websocket"') as string });
    client.close();
    vi.unstubAllGlobals();
  });

  test('the delay before reconnecting is drawn from the whole range', async () => {
    for (const random of [0, 0.25, 0.999]) {
      const stage = await new Stage().connected();
      stage.random = random;
      await stage.line.close(1006);
      expect(stage.clock.pending).toEqual([random * 500]);
    }
  });

  test('a refusal that is not temporary is final and says why', async () => {
    const stage = new Stage();
    stage.client.connect();
    const ready = stage.client.ready();
    ready.catch(() => undefined);
    await stage.line.open();
    await stage.line.reply({ id: 1, error: { code: 103, message: 'permission denied' } });
    await expect(ready).rejects.toMatchObject({ code: 103, message: 'permission denied', temporary: false });
    expect(stage.client.state).toMatchObject({ name: 'disconnected', code: 103 });
  });
});

describe('staying connected', () => {
  test('pings are answered if the server wants that', async () => {
    const stage = await new Stage().connected({ ping: 25, pong: true });
    await stage.line.reply({});
    expect(stage.line.frames.at(-1)).toBe('{}');
  });

  test('pings are not answered if the server does not want that', async () => {
    const stage = await new Stage().connected({ ping: 25 });
    const frames = stage.line.frames.length;
    await stage.line.reply({});
    expect(stage.line.frames).toHaveLength(frames);
  });

  test('silence past the announced ping ends the connection, anything heard prolongs it', async () => {
    const stage = await new Stage().connected({ ping: 25 });
    const { line } = stage;
    await stage.clock.advance(34_000);
    await line.reply({ push: { message: { data: 'hello' } } });
    await stage.clock.advance(34_999);
    expect(line.closed).toBe(false);
    await stage.clock.advance(1);
    expect(line.closed).toBe(true);
    expect(stage.client.state).toMatchObject({ name: 'connecting', code: 2, reason: 'no ping' });
  });

  test('a page that was asleep finds out at once that the connection is gone', async () => {
    const stage = await new Stage().connected({ ping: 25 });
    stage.clock.now = () => 10_000_000;
    await stage.network('visible');
    expect(stage.client.state).toMatchObject({ name: 'connecting', code: 2 });
  });

  test('going offline waits for the network, coming online connects at once', async () => {
    const stage = await new Stage().connected();
    await stage.network('offline');
    expect(stage.line.closed).toBe(true);
    expect(stage.client.state.name).toBe('connecting');
    expect(stage.clock.pending).toEqual([]);
    await stage.network('online');
    expect(stage.lines).toHaveLength(2);
    await stage.welcome();
    expect(stage.client.state.name).toBe('connected');
  });

  test('a page brought to the front does not wait for its next attempt', async () => {
    const stage = await new Stage().connected();
    await stage.line.close(1006);
    await stage.network('visible');
    expect(stage.lines).toHaveLength(2);
  });

  test('the token is refreshed when it has lived', async () => {
    const getToken = vi.fn(() => `token ${getToken.mock.calls.length}`);
    const stage = await new Stage({ getToken }).connected({ expires: true, ttl: 60 });
    await stage.clock.advance(60_000);
    const refresh = stage.line.last('refresh');
    expect(refresh.request).toEqual({ token: 'token 2' });
    await stage.line.reply({ id: refresh.id, refresh: { expires: true, ttl: 30 } });
    expect(stage.clock.pending).toEqual([30_000]);
    await stage.line.reply({ push: { refresh: { expires: true, ttl: 90 } } });
    expect(stage.clock.pending).toEqual([90_000]);
  });

  test('a life longer than timers can run is refreshed early, not at once', async () => {
    const stage = await new Stage({ getToken: () => 't' }).connected({ expires: true, ttl: 31_536_000 });
    expect(stage.clock.pending).toEqual([2 ** 31 - 1]);
  });

  test('a refresh that fails for now is tried again', async () => {
    const stage = await new Stage({ getToken: () => 't' }).connected({ expires: true, ttl: 60 });
    await stage.clock.advance(60_000);
    await stage.line.reply({ id: stage.line.last('refresh').id, error: { code: 100, message: 'later', temporary: true } });
    expect(stage.clock.pending).toEqual([7_500]);
    expect(stage.client.state.name).toBe('connected');
  });

  test('a refusal of the refreshed token ends the connection', async () => {
    const stage = await new Stage({ getToken: () => 't' }).connected({ expires: true, ttl: 60 });
    await stage.clock.advance(60_000);
    await stage.line.reply({ id: stage.line.last('refresh').id, error: { code: 103, message: 'permission denied' } });
    expect(stage.client.state).toMatchObject({ name: 'disconnected', code: 103 });
  });

  test('an invalidated state drops the token and all positions', async () => {
    const getToken = vi.fn(() => 't');
    const stage = await new Stage({ token: 'old', getToken }).connected();
    const sub = stage.client.subscription('a').subscribe();
    await settled();
    const id = stage.line.last('subscribe').id;
    await stage.line.reply({ id, subscribe: { recoverable: true, epoch: 'e', offset: 3 } });
    expect(sub.position).toEqual({ epoch: 'e', offset: 3 });
    await stage.line.close(3014, 'state invalidated');
    expect(sub.position).toBeUndefined();
    await stage.clock.advance(500);
    expect(getToken).toHaveBeenCalledTimes(1);
  });

  test.each(['{"push":', 'null', '{"push":{"channel":"x","join":{}}}', '{"id":1,"error":null}\n[', '{"push":{"channel":"a","leave":1}}'])(
    'what is no message, such as %s, ends the connection',
    async (frame) => {
      const stage = await new Stage().connected();
      stage.client.subscription('a').subscribe();
      await settled();
      await stage.line.reply({ id: stage.line.last('subscribe').id, subscribe: {} });
      stage.line.listener.received(frame);
      await settled();
      expect(stage.client.state).toMatchObject({ name: 'disconnected', code: 2, reason: 'bad protocol', error: { code: 6 } });
      expect(stage.clock.pending).toEqual([]);
    },
  );

  test('whatever a server sends, the client either goes on or says that it is no message', async () => {
    let seed = 7;
    const pick = <T>(...from: T[]): T => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return from[(seed >>> 8) % from.length]!;
    };
    const keys = ['id', 'push', 'error', 'channel', 'pub', 'join', 'leave', 'subscribe', 'unsubscribe', 'message', 'refresh', 'disconnect', 'info', 'data', 'offset', 'code', 'publications'];
    const value = (depth: number): unknown =>
      depth === 0 || pick(true, false, false)
        ? pick<unknown>(null, 0, 1, 2, 2500, 'a', '', true, [], {})
        : Object.fromEntries(Array.from({ length: pick(1, 2, 3) }, () => [pick(...keys), value(depth - 1)]));
    for (let round = 0; round < 300; round += 1) {
      const stage = await new Stage().connected({ subs: { b: {} } });
      stage.client.subscription('a').subscribe();
      await settled();
      for (let message = 0; message < 5; message += 1) stage.line.listener.received(JSON.stringify(value(4)));
      await stage.clock.advance(10_000);
      expect(['connected', 'connecting', 'disconnected']).toContain(stage.client.state.name);
      stage.client.close();
      expect(stage.clock.pending).toEqual([]);
    }
  });
});

describe('commands', () => {
  test('an error reply rejects with code, message and whether it is temporary', async () => {
    const stage = await new Stage().connected();
    const caught = stage.client.history('a').catch((error: unknown) => error);
    await settled();
    await stage.line.reply({ id: stage.line.last('history').id, error: { code: 111, message: 'slow down', temporary: true } });
    const error = await caught;
    expect(error).toBeInstanceOf(BobolinkError);
    expect(error).toMatchObject({ name: 'BobolinkError', code: 111, message: 'slow down', temporary: true });
  });

  test('a command without reply fails in time', async () => {
    const stage = await new Stage({ timeout: 1_000 }).connected();
    const result = stage.client.presence('a');
    result.catch(() => undefined);
    await stage.clock.advance(1_000);
    await expect(result).rejects.toMatchObject({ code: 1, temporary: true });
  });

  test('what was sent fails when the connection breaks, what was not is sent on the next one', async () => {
    const stage = await new Stage().connected();
    const sent = stage.client.rpc('sent');
    sent.catch(() => undefined);
    await settled();
    await stage.line.close(1006);
    await expect(sent).rejects.toMatchObject({ code: 2, temporary: true });
    const waiting = stage.client.rpc('waiting');
    await stage.clock.advance(250);
    await stage.welcome();
    await stage.line.reply({ id: stage.line.last('rpc').id, rpc: { data: 'here' } });
    expect(await waiting).toBe('here');
  });

  test('what waits for the welcome outlives an attempt that fails before it', async () => {
    const stage = new Stage();
    stage.client.connect();
    const result = stage.client.rpc('m');
    await stage.line.open();
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.welcome();
    await stage.line.reply({ id: stage.line.last('rpc').id, rpc: { data: 1 } });
    expect(await result).toBe(1);
  });

  test('what waits is told when the client gives up', async () => {
    const stage = new Stage();
    stage.client.connect();
    const waiting = watch(stage.client.rpc('m'));
    stage.client.disconnect();
    await settled();
    expect(waiting.outcome).toMatchObject({ error: { code: 3 } });
    expect(stage.clock.pending).toEqual([]);
  });

  test('what cannot be written as JSON fails alone', async () => {
    const stage = await new Stage().connected();
    const circle: { self?: unknown } = {};
    circle.self = circle;
    const [good, bad, sent] = [stage.client.rpc('good'), watch(stage.client.rpc('bad', circle)), watch(stage.client.send(1n))];
    await settled();
    await stage.line.reply({ id: stage.line.last('rpc').id, rpc: {} });
    expect(await good).toBeUndefined();
    expect([bad.outcome, sent.outcome]).toMatchObject([{ error: { code: 21 } }, { error: { code: 21 } }]);
    const sub = stage.client.subscription('a', { data: circle }).subscribe();
    await settled();
    expect(sub.state).toMatchObject({ name: 'unsubscribed', code: 21 });
  });

  test('a disconnected client rejects at once', async () => {
    const { client } = new Stage();
    await expect(client.publish('a', 1)).rejects.toMatchObject({ code: 3 });
    await expect(client.send(1)).rejects.toMatchObject({ code: 3 });
    await expect(client.ready()).rejects.toMatchObject({ code: 3 });
  });

  test('ready has a deadline', async () => {
    const stage = new Stage();
    stage.client.connect();
    const ready = stage.client.ready(100);
    ready.catch(() => undefined);
    await stage.clock.advance(100);
    await expect(ready).rejects.toMatchObject({ code: 1 });
  });
});

describe('closing', () => {
  test('leaves no timer and no listener, settles every promise, and is final', async () => {
    const stage = new Stage({ getToken: () => 't' });
    const { client, clock } = stage;
    const sub = client.subscription('a', { getToken: () => 't' });
    sub.subscribe();
    await stage.connected({ ping: 25, expires: true, ttl: 60 });
    await stage.line.reply({ id: stage.line.last('subscribe').id, subscribe: { expires: true, ttl: 60 } });
    const late = client.subscription('b').subscribe();
    const iterator = sub.publications();
    const open = [
      client.rpc('m'),
      client.history('a'),
      client.presence('a'),
      sub.publish(1),
      late.ready(1_000),
      late.publish(1),
      iterator.next(),
    ].map(watch);
    await settled();
    expect(clock.pending.length).toBeGreaterThan(3);
    const { line } = stage;
    client.close();
    await settled();
    expect(open.map(({ outcome }) => outcome)).not.toContain('pending');
    expect(clock.pending).toEqual([]);
    expect(stage.listeners.size).toBe(0);
    expect(line.closed).toBe(true);
    expect([client.state.name, sub.state.name, late.state.name]).toEqual(['closed', 'closed', 'closed']);
    client.connect();
    expect(client.state.name).toBe('closed');
    await expect(client.ready()).rejects.toMatchObject({ code: 4 });
    await expect(sub.ready()).rejects.toMatchObject({ code: 4 });
    expect(() => client.subscription('c')).toThrow('closed');
  });

  test.each(['credentials', 'socket', 'welcome', 'backoff'])('while waiting for %s leaves nothing either', async (step) => {
    const never = new Promise<string>(() => undefined);
    const stage = new Stage(step === 'credentials' ? { getToken: () => never } : {});
    stage.client.connect();
    const ready = watch(stage.client.ready(10_000));
    if (step === 'welcome' || step === 'backoff') await stage.line.open();
    if (step === 'backoff') await stage.line.close(1006);
    stage.client.close();
    await settled();
    expect(ready.outcome).toMatchObject({ error: { code: 4 } });
    expect(stage.clock.pending).toEqual([]);
  });

  test('what arrives afterwards is heard by nobody', async () => {
    const stage = await new Stage().connected();
    const { line } = stage;
    stage.client.close();
    const count = stage.events.length;
    await line.reply({ push: { message: { data: 1 } } });
    expect(stage.events).toHaveLength(count);
  });
});

describe('listeners', () => {
  test('one that throws keeps neither the others nor the client from going on', async () => {
    const reported = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    const stage = new Stage();
    stage.client.on('connected', () => {
      throw new Error('mine');
    });
    const heard = vi.fn();
    stage.client.on('connected', heard);
    await stage.connected();
    expect(heard).toHaveBeenCalledTimes(1);
    expect(reported).toHaveBeenCalledTimes(1);
    reported.mockRestore();
  });

  test('one may disconnect: what it caused comes after what it was told', async () => {
    const stage = new Stage();
    stage.client.on('connected', () => stage.client.disconnect());
    await stage.connected();
    expect(stage.states).toEqual(['connecting', 'connected', 'disconnected']);
    expect(stage.line.closed).toBe(true);
  });

  test('one that is added by another hears of what comes next', async () => {
    const stage = new Stage();
    const heard = vi.fn();
    const off = stage.client.on('connected', () => {
      off();
      stage.client.on('connected', heard);
    });
    await stage.connected();
    expect(heard).not.toHaveBeenCalled();
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.welcome();
    expect(heard).toHaveBeenCalledTimes(1);
  });

  test('one that was taken off is not called', async () => {
    const stage = new Stage();
    const heard = vi.fn();
    const off = stage.client.on('connected', heard);
    off();
    await stage.connected();
    expect(heard).not.toHaveBeenCalled();
  });
});

describe('the event log', () => {
  test('tells what happened and no secret', async () => {
    const log = new EventLog(100);
    const secrets = { token: 'SECRET-1', data: { password: 'SECRET-2' }, headers: { authorization: 'SECRET-3' } };
    const stage = await new Stage({ ...secrets, getToken: () => 'SECRET-4', log: log.add }).connected({ expires: true, ttl: 1 });
    stage.client.subscription('a', { token: 'SECRET-5', data: 'SECRET-6' }).subscribe();
    void stage.client.rpc('login', { token: 'SECRET-7' }).catch(() => undefined);
    await stage.clock.advance(1_000);
    expect(stage.line.last('refresh').request.token).toBe('SECRET-4');
    const text = JSON.stringify(log.entries);
    expect(text).not.toContain('SECRET');
    expect(log.entries.map(({ kind }) => kind)).toEqual(expect.arrayContaining(['state', 'sent', 'received']));
    expect(text).toContain('login');
    stage.client.close();
  });

  test('may fail without harm', async () => {
    const reported = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    const log = (): void => {
      throw new Error('mine');
    };
    const stage = await new Stage({ log }).connected();
    expect(stage.client.state.name).toBe('connected');
    expect(reported).toHaveBeenCalled();
    reported.mockRestore();
  });

  test('keeps the newest entries', () => {
    const log = new EventLog(2);
    for (const at of [1, 2, 3]) log.add({ at, kind: 'state', text: '' });
    expect(log.entries.map(({ at }) => at)).toEqual([2, 3]);
  });
});
