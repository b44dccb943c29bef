/** Every phase of a connection with every event that can meet it. */

import { describe, expect, test } from 'vitest';

import { BobolinkError, UnauthorizedError } from '../../src/errors.js';
import { newConnection, stepConnection } from '../../src/machines/connection.js';
import type { Connection, ConnectionEffect, ConnectionEvent } from '../../src/machines/connection.js';

const settings = {
  renewable: true,
  timeout: 5_000,
  minReconnectDelay: 500,
  maxReconnectDelay: 20_000,
  maxServerPingDelay: 10_000,
};

const welcome = { type: 'welcomed', result: { client: 'c', ping: 25, expires: true, ttl: 60 } } as const;
const overloaded = new BobolinkError(100, 'internal server error', true);
const forbidden = new BobolinkError(103, 'permission denied');
const expired = new BobolinkError(109, 'token expired');

function after(events: ConnectionEvent[], options: Partial<typeof settings> = {}): Connection {
  const start = newConnection({ ...settings, ...options }, 'token');
  return events.reduce((connection, event) => stepConnection(connection, event)[0], start);
}

const opening: ConnectionEvent[] = [{ type: 'connect' }, { type: 'credentials', round: 1, token: 'token' }];
const phases: Record<string, Connection> = {
  disconnected: after([]),
  credentials: after([{ type: 'connect' }]),
  socket: after(opening),
  welcome: after([...opening, { type: 'opened' }]),
  backoff: after([...opening, { type: 'lost', code: 1006, reason: '' }]),
  network: after([{ type: 'connect' }, { type: 'offline' }]),
  connected: after([...opening, { type: 'opened' }, welcome]),
  closed: after([{ type: 'close' }]),
};

/** `round` is filled in with the current one. */
const events: Record<string, ConnectionEvent> = {
  connect: { type: 'connect' },
  disconnect: { type: 'disconnect' },
  close: { type: 'close' },
  restart: { type: 'restart', code: 3, reason: 'subscribe timeout' },
  credentials: { type: 'credentials', round: 0, token: 'new' },
  'failed: overloaded': { type: 'failed', round: 0, error: overloaded },
  'failed: expired': { type: 'failed', round: 0, error: expired },
  'failed: forbidden': { type: 'failed', round: 0, error: forbidden },
  'failed: unauthorized': { type: 'failed', round: 0, error: new UnauthorizedError() },
  opened: { type: 'opened' },
  'lost: 1006': { type: 'lost', code: 1006, reason: '' },
  'lost: 3014': { type: 'lost', code: 3014, reason: 'state invalidated' },
  'lost: 3500': { type: 'lost', code: 3500, reason: 'invalid token' },
  garbled: { type: 'garbled', error: new BobolinkError(6, 'bad protocol') },
  welcomed: welcome,
  refreshed: { type: 'refreshed', expiry: { expires: true, ttl: 30 } },
  online: { type: 'online' },
  offline: { type: 'offline' },
  'visible, heard lately': { type: 'visible', idle: 1_000 },
  'visible, long silent': { type: 'visible', idle: 35_000 },
  'timer: retry': { type: 'timer', name: 'retry', idle: 0 },
  'timer: welcome': { type: 'timer', name: 'welcome', idle: 0 },
  'timer: silence': { type: 'timer', name: 'silence', idle: 35_000 },
  'timer: refresh': { type: 'timer', name: 'refresh', idle: 0 },
};

function take(connection: Connection, event: ConnectionEvent): [Connection, ConnectionEffect[]] {
  return stepConnection(connection, 'round' in event ? { ...event, round: connection.round } : event);
}

function named({ state, step }: Connection): string {
  return step ?? state.name;
}

function shown(effect: ConnectionEffect): string {
  switch (effect.do) {
    case 'report':
      return `report ${effect.state.name}${'code' in effect.state ? ` ${effect.state.code}` : ''}`;
    case 'timer':
      return `timer ${effect.name} ${effect.delay.atLeast}-${effect.delay.atMost}`;
    case 'stop':
      return effect.timer ? `stopTimer ${effect.timer}` : 'clearTimers';
    case 'prepare':
      return `prepare${effect.token ? ' token' : ''}`;
    case 'error':
      return `error ${effect.error.code}`;
    default:
      return effect.do;
  }
}

describe('every event in every phase', () => {
  test.each(Object.keys(phases))('%s', (name) => {
    const connection = phases[name]!;
    expect(named(connection)).toBe(name);
    const lines = Object.entries(events).flatMap(([what, event]) => {
      const [next, effects] = take(connection, event);
      const changed = named(next) !== name || effects.length > 0;
      return changed ? [`${what} -> ${named(next)}: ${effects.map(shown).join(', ')}`] : [];
    });
    expect(lines).toMatchSnapshot();
  });
});

describe('rules that hold whatever happens', () => {
  const everyStep = Object.values(phases).flatMap((from) =>
    Object.values(events).map((event) => ({ from, event, result: take(from, event) })),
  );

  test('a connection that is left hangs up and stops its timers before anything else', () => {
    for (const { from, result } of everyStep) {
      const [next, effects] = result;
      if (from.state.name === 'connected' && next.state.name !== 'connected') {
        expect(effects.map(({ do: what }) => what).filter((what) => what !== 'error')).toEqual(
          expect.arrayContaining(['stop', 'hangUp']),
        );
      }
    }
  });

  test('whatever ends or starts anew makes answers to the old attempt void', () => {
    for (const { from, event, result } of everyStep) {
      const [next] = result;
      if (next.state.name !== from.state.name && next.state.name !== 'connected' && next.state.name !== 'closed') {
        expect(next.round, `${from.state.name} ${event.type}`).toBeGreaterThan(from.round);
      }
    }
  });

  test('an answer to an earlier attempt changes nothing', () => {
    for (const connection of Object.values(phases)) {
      for (const event of Object.values(events)) {
        if ('round' in event) {
          expect(stepConnection(connection, { ...event, round: connection.round - 1 })).toEqual([connection, []]);
        }
      }
    }
  });

  test('a closed connection stays closed', () => {
    for (const event of Object.values(events)) {
      expect(take(phases['closed']!, event)).toEqual([phases['closed'], []]);
    }
  });
});

describe('details', () => {
  test('the bound of the delay doubles with every failure and has an end', () => {
    let connection = phases['connected']!;
    const bounds: number[] = [];
    for (let failure = 0; failure < 8; failure += 1) {
      const [next, effects] = take(connection, { type: 'lost', code: 1006, reason: '' });
      bounds.push(...effects.flatMap((effect) => (effect.do === 'timer' ? [effect.delay.atMost] : [])));
      connection = next;
    }
    expect(bounds).toEqual([500, 1000, 2000, 4000, 8000, 16000, 20000, 20000]);
  });

  test('a welcome forgets earlier failures', () => {
    const failed = { ...phases['welcome']!, attempt: 5 };
    expect(take(failed, welcome)[0].attempt).toBe(0);
  });

  test('without a way to get a token an expired one ends the connection', () => {
    const [next] = take(after([...opening, { type: 'opened' }], { renewable: false }), events['failed: expired']!);
    expect(next.state).toMatchObject({ name: 'disconnected', code: 1, reason: 'unauthorized' });
  });

  test('without a way to get a token no refresh is planned', () => {
    const [, effects] = take(after([...opening, { type: 'opened' }], { renewable: false }), welcome);
    expect(effects.filter((effect) => effect.do === 'timer').map(({ name }) => name)).toEqual(['silence']);
  });

  test('a connection that no longer expires is not refreshed', () => {
    const [, effects] = take(phases['connected']!, { type: 'refreshed', expiry: {} });
    expect(effects).toEqual([{ do: 'stop', timer: 'refresh' }]);
  });

  test('an expired token is dropped, so that the next attempt asks for one', () => {
    const [next] = take(phases['welcome']!, events['failed: expired']!);
    const [, effects] = take(next, { type: 'timer', name: 'retry', idle: 0 });
    expect(effects.at(-1)).toMatchObject({ do: 'prepare', token: true });
  });

  test.each([
    [1000, 'connecting'],
    [1001, 'connecting'],
    [1006, 'connecting'],
    [1009, 'disconnected'],
    [3000, 'connecting'],
    [3499, 'connecting'],
    [3500, 'disconnected'],
    [3999, 'disconnected'],
    [4000, 'connecting'],
    [4499, 'connecting'],
    [4500, 'disconnected'],
    [4999, 'disconnected'],
    [5000, 'connecting'],
    [5500, 'connecting'],
  ])('after close code %i a client is %s', (code, name) => {
    expect(take(phases['connected']!, { type: 'lost', code, reason: '' })[0].state.name).toBe(name);
  });

  test('a server without pings is not missed', () => {
    const quiet = take(phases['welcome']!, { type: 'welcomed', result: { client: 'c' } })[0];
    expect(take(quiet, { type: 'visible', idle: 1e9 })).toEqual([quiet, []]);
  });
});
