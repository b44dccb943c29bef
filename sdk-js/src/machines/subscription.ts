/**
 * The life of a subscription, as a pure function, like that of the connection. `Subscription` does
 * what it says and feeds back what comes of it.
 */

import { Reason, reasonOf, resubscribes, SUBSCRIPTION_EXPIRED, SUBSCRIPTION_INVALIDATED } from '../codes.js';
import { BobolinkError, ErrorCode } from '../errors.js';
import { standingOf, type Standing } from '../publication.js';
import { backoff, expiry, REFRESH_RETRY, type Delay } from '../timers.js';
import type { Expiry, StreamPosition, SubscribeResult, WirePublication } from '../wire.js';

/** What an application sees of a subscription. */
export type SubscriptionState =
  | { readonly name: 'unsubscribed'; readonly code: number; readonly reason: string; readonly error?: BobolinkError }
  | { readonly name: 'subscribing'; readonly code: number; readonly reason: string }
  | ({ readonly name: 'subscribed' } & Standing)
  | { readonly name: 'closed' };

/** What a subscribing one waits for; `backoff` comes after a failure. */
export type SubscribingStep = 'link' | 'credentials' | 'reply' | 'backoff';

export interface MembershipSettings {
  /** Whether a token can be asked for. */
  renewable: boolean;
  /** Whether the application loads state and position itself (`getState`). */
  loadsState: boolean;
  /** Milliseconds. */
  minResubscribeDelay: number;
  maxResubscribeDelay: number;
}

export interface Membership {
  readonly settings: MembershipSettings;
  readonly state: SubscriptionState;
  /** While it is subscribing, and only then. */
  readonly step?: SubscribingStep;
  readonly token: string;
  /** Where to recover from; kept as publications come in. */
  readonly position?: StreamPosition;
  /** Whether the server would recover from the position. */
  readonly recoverable: boolean;
  readonly attempt: number;
  /** Numbers the attempts, so that an answer to an earlier one is known as such. */
  readonly round: number;
  /** Whether there is a connection to send commands over. */
  readonly linked: boolean;
}

export type SubscriptionTimer = 'retry' | 'refresh';

export type SubscriptionEvent =
  | { type: 'subscribe' | 'unsubscribe' | 'close' | 'linked' | 'unlinked' | 'invalidated' }
  | { type: 'token'; token: string }
  | { type: 'prepared'; round: number; token: string; position?: StreamPosition }
  | { type: 'failed'; round: number; error: BobolinkError }
  | { type: 'replied'; round: number; result: SubscribeResult }
  | { type: 'refreshed'; expiry: Expiry }
  /** The server ended the subscription. */
  | { type: 'ended'; code: number; reason: string }
  | { type: 'advanced'; offset: number }
  /** A patch did not fit: what follows it cannot be read either. */
  | { type: 'damaged'; error: BobolinkError }
  | { type: 'timer'; name: SubscriptionTimer };

export type SubscriptionEffect =
  | { do: 'report'; state: SubscriptionState }
  /** Get a token and load the state, as far as asked for here, and the data to subscribe with. */
  | { do: 'prepare'; round: number; token: boolean; state: boolean }
  | { do: 'subscribe'; round: number }
  | { do: 'unsubscribe' | 'refresh' }
  | { do: 'accept'; result: SubscribeResult }
  | { do: 'deliver'; publications: WirePublication[] }
  | { do: 'timer'; name: SubscriptionTimer; delay: Delay }
  /** One timer, or all of them. */
  | { do: 'stop'; timer?: SubscriptionTimer }
  /** What the server holds of this subscription is unknown; only a new connection makes it known. */
  | { do: 'reconnect'; code: number; reason: string }
  | { do: 'error'; error: BobolinkError };

type Step = [Membership, SubscriptionEffect[]];
type Why = { code: number; reason: string };

export function newMembership(settings: MembershipSettings, token: string, since?: StreamPosition): Membership {
  const state = { name: 'unsubscribed', ...Reason.called } as const;
  const recoverable = since !== undefined;
  return { settings, state, token, position: since, recoverable, attempt: 0, round: 0, linked: false };
}

/** One dispatch for everything that can happen to a subscription. */
export function stepSubscription(membership: Membership, event: SubscriptionEvent): Step {
  const { name } = membership.state;
  if (name === 'closed') {
    return [membership, []];
  }
  switch (event.type) {
    case 'subscribe':
      return name === 'unsubscribed' ? begin({ ...membership, attempt: 0 }, Reason.called) : [membership, []];
    case 'unsubscribe':
      return name === 'unsubscribed' ? [membership, []] : end(membership, Reason.called);
    case 'close':
      return enter(membership, { name: 'closed' });
    case 'token':
      return [{ ...membership, token: event.token }, []];
    case 'linked':
      return whenLinked({ ...membership, linked: true });
    case 'unlinked':
      return whenUnlinked({ ...membership, linked: false });
    case 'invalidated':
      return [forget(membership), []];
    default:
      return name === 'unsubscribed' ? [membership, []] : whenActive(membership, event);
  }
}

type ActiveEvent = Exclude<
  SubscriptionEvent,
  { type: 'subscribe' | 'unsubscribe' | 'close' | 'token' | 'linked' | 'unlinked' | 'invalidated' }
>;

function whenActive(membership: Membership, event: ActiveEvent): Step {
  const { step } = membership;
  if ('round' in event && event.round !== membership.round) {
    return [membership, []];
  }
  switch (event.type) {
    case 'prepared':
      return whenPrepared(membership, event.token, event.position);
    case 'failed':
      return whenFailed(membership, event.error);
    case 'replied':
      return step === 'reply' ? whenReplied(membership, event.result) : [membership, []];
    case 'refreshed':
      return [membership, step ? [] : expiry(membership, event.expiry)];
    case 'ended':
      // Before the reply it is about an earlier subscription: the server answers in order.
      return step ? [membership, []] : whenEnded(membership, event);
    case 'advanced':
      return [advance(membership, event.offset), []];
    case 'damaged':
      return step ? [membership, []] : whenDamaged(membership, event.error);
    case 'timer':
      return whenTimer(membership, event.name);
  }
}

function whenTimer(membership: Membership, name: SubscriptionTimer): Step {
  const { step, round } = membership;
  switch (name) {
    case 'retry':
      return step ? begin(membership, Reason.transportClosed) : [membership, []];
    case 'refresh':
      return [membership, step ? [] : [{ do: 'prepare', round, token: true, state: false }]];
  }
}

function whenLinked(membership: Membership): Step {
  return membership.step === 'link' ? begin(membership, Reason.transportClosed) : [membership, []];
}

function whenUnlinked(membership: Membership): Step {
  const isOut = membership.state.name === 'unsubscribed';
  return isOut ? [membership, []] : begin(membership, Reason.transportClosed);
}

/** The token is there: to subscribe with, or to refresh a subscription that stands. */
function whenPrepared(membership: Membership, token: string, position: StreamPosition | undefined): Step {
  const { step, round } = membership;
  const next = position ? { ...membership, token, position, recoverable: true } : { ...membership, token };
  switch (step) {
    case undefined:
      return [next, [{ do: 'refresh' }]];
    case 'credentials':
      return [{ ...next, step: 'reply' }, [{ do: 'subscribe', round }]];
    default:
      return [membership, []];
  }
}

function whenFailed(membership: Membership, error: BobolinkError): Step {
  const { settings, step } = membership;
  const expired = error.code === ErrorCode.tokenExpired;
  const reload = error.code === ErrorCode.unrecoverablePosition && settings.loadsState;
  if (step === 'reply' && error.code === ErrorCode.timeout) {
    return [membership, [{ do: 'error', error }, { do: 'reconnect', ...Reason.subscribeTimeout }]];
  }
  if (!reload && (expired ? !settings.renewable : !error.temporary)) {
    return withoutLeaving(end(membership, reasonOf(error), error), step);
  }
  const next = reload ? { ...membership, position: undefined } : expired ? { ...membership, token: '' } : membership;
  const [after, effects] = step
    ? retry(next, Reason.transportClosed)
    : ([next, [{ do: 'timer', name: 'refresh', delay: REFRESH_RETRY }]] satisfies Step);
  return [after, [{ do: 'error', error }, ...effects]];
}

function whenReplied(membership: Membership, result: SubscribeResult): Step {
  const standing = standingOf(result);
  const { position, recoverable } = standing;
  const [next, effects] = enter(
    { ...membership, attempt: 0, position, recoverable },
    { name: 'subscribed', ...standing },
  );
  const publications = result.publications ?? [];
  return [
    next,
    [{ do: 'accept', result }, ...effects, ...expiry(next, result), { do: 'deliver', publications }],
  ];
}

function whenEnded(membership: Membership, { code, reason }: Why): Step {
  if (!resubscribes(code)) {
    return withoutLeaving(end(membership, { code, reason }, new BobolinkError(code, reason)), 'reply');
  }
  const renew = code === SUBSCRIPTION_EXPIRED && membership.settings.renewable;
  const next = code === SUBSCRIPTION_INVALIDATED ? forget(membership) : renew ? { ...membership, token: '' } : membership;
  return retry(next, { code, reason });
}

function whenDamaged(membership: Membership, error: BobolinkError): Step {
  const [next, effects] = retry(membership, Reason.badPatch);
  return [next, [{ do: 'error', error }, { do: 'unsubscribe' }, ...effects]];
}

/** Begins an attempt at its beginning, which without a connection is to wait for one. */
function begin(membership: Membership, { code, reason }: Why): Step {
  const { settings, linked, token, position } = membership;
  const state = { name: 'subscribing', code, reason } as const;
  const [next, effects] = enter(membership, state, linked ? 'credentials' : 'link');
  const prepare: SubscriptionEffect = {
    do: 'prepare',
    round: next.round,
    token: settings.renewable && token === '',
    state: settings.loadsState && !position,
  };
  return [next, linked ? [...effects, prepare] : effects];
}

function retry(membership: Membership, { code, reason }: Why): Step {
  const { settings, attempt } = membership;
  const state = { name: 'subscribing', code, reason } as const;
  const [next, effects] = enter({ ...membership, attempt: attempt + 1 }, state, 'backoff');
  const delay = backoff(attempt, settings.minResubscribeDelay, settings.maxResubscribeDelay);
  return [next, [...effects, { do: 'timer', name: 'retry', delay }]];
}

function end(membership: Membership, { code, reason }: Why, error?: BobolinkError): Step {
  return enter(membership, { name: 'unsubscribed', code, reason, error });
}

/**
 * Every change of state and every new attempt, as with the connection: what served the old one ends
 * first, and attempts follow each other within one state.
 */
function enter(membership: Membership, state: SubscriptionState, step?: SubscribingStep): Step {
  const { state: old, step: before, linked } = membership;
  const next = { ...membership, step, round: membership.round + 1 };
  const effects: SubscriptionEffect[] = [{ do: 'stop' }];
  const leaves = state.name === 'unsubscribed' || state.name === 'closed';
  // A command in flight is waited for by the server, which then undoes it.
  if (leaves && linked && (old.name === 'subscribed' || before === 'reply')) {
    effects.push({ do: 'unsubscribe' });
  }
  return step && before ? [next, effects] : [{ ...next, state }, [...effects, { do: 'report', state }]];
}

/** What the server refused or ended by itself it need not be asked to end. */
function withoutLeaving([membership, effects]: Step, step: SubscribingStep | undefined): Step {
  return [membership, step ? effects.filter((effect) => effect.do !== 'unsubscribe') : effects];
}

function advance(membership: Membership, offset: number): Membership {
  const { position } = membership;
  return position ? { ...membership, position: { ...position, offset } } : membership;
}

function forget(membership: Membership): Membership {
  const token = membership.settings.renewable ? '' : membership.token;
  return { ...membership, token, position: undefined, recoverable: false };
}
