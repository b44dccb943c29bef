/** Every phase of a subscription with every event that can meet it. */

import { describe, expect, test } from 'vitest';

import { BobolinkError, UnauthorizedError } from '../../src/errors.js';
import { newMembership, stepSubscription } from '../../src/machines/subscription.js';
import type { Membership, SubscriptionEffect, SubscriptionEvent } from '../../src/machines/subscription.js';

const settings = { renewable: true, loadsState: false, minResubscribeDelay: 500, maxResubscribeDelay: 20_000 };
const result = { recoverable: true, positioned: true, epoch: 'e', offset: 7, expires: true, ttl: 60 };

function after(events: SubscriptionEvent[], options: Partial<typeof settings> = {}): Membership {
  const start = newMembership({ ...settings, ...options }, '');
  return events.reduce((membership, event) => stepSubscription(membership, event)[0], start);
}

const linked: SubscriptionEvent[] = [{ type: 'subscribe' }, { type: 'linked' }];
const asking: SubscriptionEvent[] = [...linked, { type: 'prepared', round: 2, token: 'token' }];
const phases: Record<string, Membership> = {
  unsubscribed: after([{ type: 'linked' }]),
  link: after([{ type: 'subscribe' }]),
  credentials: after(linked),
  reply: after(asking),
  backoff: after([...linked, { type: 'failed', round: 2, error: new BobolinkError(8, 'failed', true) }]),
  subscribed: after([...asking, { type: 'replied', round: 2, result }]),
  closed: after([{ type: 'close' }]),
};

/** `round` is filled in with the current one. */
const events: Record<string, SubscriptionEvent> = {
  subscribe: { type: 'subscribe' },
  unsubscribe: { type: 'unsubscribe' },
  close: { type: 'close' },
  linked: { type: 'linked' },
  unlinked: { type: 'unlinked' },
  prepared: { type: 'prepared', round: 0, token: 'new' },
  'failed: overloaded': { type: 'failed', round: 0, error: new BobolinkError(100, 'internal server error', true) },
  'failed: timeout': { type: 'failed', round: 0, error: new BobolinkError(1, 'timeout', true) },
  'failed: expired': { type: 'failed', round: 0, error: new BobolinkError(109, 'token expired') },
  'failed: unrecoverable': { type: 'failed', round: 0, error: new BobolinkError(112, 'unrecoverable position') },
  'failed: forbidden': { type: 'failed', round: 0, error: new BobolinkError(103, 'permission denied') },
  'failed: unauthorized': { type: 'failed', round: 0, error: new UnauthorizedError() },
  replied: { type: 'replied', round: 0, result },
  refreshed: { type: 'refreshed', expiry: { expires: true, ttl: 30 } },
  'ended: 2000': { type: 'ended', code: 2000, reason: 'server unsubscribe' },
  'ended: 2500': { type: 'ended', code: 2500, reason: 'insufficient state' },
  'ended: 2501': { type: 'ended', code: 2501, reason: 'subscription expired' },
  'ended: 2502': { type: 'ended', code: 2502, reason: 'state invalidated' },
  damaged: { type: 'damaged', error: new BobolinkError(22, 'a patch does not fit', true) },
  'timer: retry': { type: 'timer', name: 'retry' },
  'timer: refresh': { type: 'timer', name: 'refresh' },
};

function take(membership: Membership, event: SubscriptionEvent): [Membership, SubscriptionEffect[]] {
  return stepSubscription(membership, 'round' in event ? { ...event, round: membership.round } : event);
}

function named({ state, step }: Membership): string {
  return step ?? state.name;
}

function shown(effect: SubscriptionEffect): string {
  switch (effect.do) {
    case 'report':
      return `report ${effect.state.name}${'code' in effect.state ? ` ${effect.state.code}` : ''}`;
    case 'timer':
      return `timer ${effect.name} ${effect.delay.atLeast}-${effect.delay.atMost}`;
    case 'stop':
      return effect.timer ? `stopTimer ${effect.timer}` : 'clearTimers';
    case 'prepare':
      return `prepare${effect.token ? ' token' : ''}${effect.state ? ' state' : ''}`;
    case 'error':
      return `error ${effect.error.code}`;
    default:
      return effect.do;
  }
}

describe('every event in every phase', () => {
  test.each(Object.keys(phases))('%s', (name) => {
    const membership = phases[name]!;
    expect(named(membership)).toBe(name);
    const lines = Object.entries(events).flatMap(([what, event]) => {
      const [next, effects] = take(membership, event);
      const changed = named(next) !== name || effects.length > 0;
      return changed ? [`${what} -> ${named(next)}: ${effects.map(shown).join(', ')}`] : [];
    });
    expect(lines).toMatchSnapshot();
  });
});

describe('positions', () => {
  const subscribed = phases['subscribed']!;

  test('publications move the position, and the next attempt recovers from there', () => {
    const moved = take(subscribed, { type: 'advanced', offset: 8 })[0];
    expect(moved).toMatchObject({ position: { epoch: 'e', offset: 8 }, recoverable: true });
    expect(take(moved, { type: 'unlinked' })[0].position).toEqual({ epoch: 'e', offset: 8 });
  });

  test('what was recovered is delivered after the state was reported', () => {
    const publications = [{ data: 1, offset: 8 }];
    const [, effects] = take(phases['reply']!, { type: 'replied', round: 0, result: { ...result, publications } });
    const order = effects.map(({ do: what }) => what);
    expect(order.indexOf('deliver')).toBeGreaterThan(order.indexOf('report'));
    expect(effects.at(-1)).toEqual({ do: 'deliver', publications });
  });

  test('unsubscribing keeps the position, invalidation drops it and the token', () => {
    expect(take(subscribed, { type: 'unsubscribe' })[0].position).toBeDefined();
    for (const event of [events['ended: 2502']!, { type: 'invalidated' } as const]) {
      expect(take(subscribed, event)[0]).toMatchObject({ position: undefined, recoverable: false, token: '' });
    }
  });

  test('a channel without a stream has no position', () => {
    const [next] = take(phases['reply']!, { type: 'replied', round: 0, result: {} });
    expect(take(next, { type: 'advanced', offset: 8 })[0].position).toBeUndefined();
  });
});

describe('state loaded by the application', () => {
  const options = { loadsState: true, renewable: false };

  test('is asked for before the first subscribe only', () => {
    const [first, effects] = take(after([{ type: 'subscribe' }], options), { type: 'linked' });
    expect(effects.at(-1)).toMatchObject({ do: 'prepare', state: true });
    const position = { epoch: 'e', offset: 3 };
    const [asking] = take(first, { type: 'prepared', round: 0, token: '', position });
    expect(asking).toMatchObject({ position, recoverable: true });
    const [, again] = take(take(asking, { type: 'unlinked' })[0], { type: 'linked' });
    expect(again.at(-1)).toMatchObject({ do: 'prepare', state: false });
  });

  test('is asked for again when recovery is impossible', () => {
    const asking = after([...linked, { type: 'prepared', round: 2, token: '', position: { epoch: 'e', offset: 3 } }], options);
    const [next, effects] = take(asking, events['failed: unrecoverable']!);
    expect(named(next)).toBe('backoff');
    expect(effects.map(shown)).toContain('error 112');
    expect(take(next, { type: 'timer', name: 'retry' })[1].at(-1)).toMatchObject({ do: 'prepare', state: true });
  });
});

test('an answer to an earlier attempt changes nothing', () => {
  for (const membership of Object.values(phases)) {
    for (const event of Object.values(events)) {
      if ('round' in event) {
        expect(stepSubscription(membership, { ...event, round: membership.round - 1 })).toEqual([membership, []]);
      }
    }
  }
});

test('without a way to get a token an expired one ends the subscription', () => {
  const [next] = take(after(asking, { renewable: false }), events['failed: expired']!);
  expect(next.state).toMatchObject({ name: 'unsubscribed', code: 1, reason: 'unauthorized' });
});
