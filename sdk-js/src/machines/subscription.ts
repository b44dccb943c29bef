/**
 * The life of a subscription, as a pure function, like that of the connection. `Subscription` does
 * what it says and feeds back what comes of it.
 */

import { Reason, reasonOf, resubscribes, SUBSCRIPTION_EXPIRED, SUBSCRIPTION_INVALIDATED } from '../codes.js';
import { BobolinkError, ErrorCode, isRetryable } from '../errors.js';
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

type Phase =
  | Exclude<SubscriptionState, { name: 'subscribing' }>
  | { name: 'subscribing'; code: number; reason: string; step: SubscribingStep };

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
  readonly phase: Phase;
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
  const phase = { name: 'unsubscribed', ...Reason.called } as const;
  const recoverable = since !== undefined;
  return { settings, phase, token, position: since, recoverable, attempt: 0, round: 0, linked: false };
}

/** One dispatch for everything that can happen to a subscription. */
export function stepSubscription(membership: Membership, event: SubscriptionEvent): Step {
  const { phase } = membership;
  if (phase.name === 'closed') {
    return [membership, []];
  }
  switch (event.type) {
    case 'subscribe':
      return phase.name === 'unsubscribed' ? begin({ ...membership, attempt: 0 }, Reason.called) : [membership, []];
    case 'unsubscribe':
      return phase.name === 'unsubscribed' ? [membership, []] : end(membership, Reason.called);
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
      return phase.name === 'unsubscribed' ? [membership, []] : whenActive(membership, phase, event);
  }
}

/** What an application sees of a phase. */
export function subscriptionState(phase: Phase): SubscriptionState {
  return phase.name === 'subscribing' ? { name: phase.name, code: phase.code, reason: phase.reason } : phase;
}

type Active = Extract<Phase, { name: 'subscribing' | 'subscribed' }>;
type ActiveEvent = Exclude<
  SubscriptionEvent,
  { type: 'subscribe' | 'unsubscribe' | 'close' | 'token' | 'linked' | 'unlinked' | 'invalidated' }
>;

function whenActive(membership: Membership, phase: Active, event: ActiveEvent): Step {
  const step = phase.name === 'subscribing' ? phase.step : undefined;
  const current = !('round' in event) || event.round === membership.round;
  switch (event.type) {
    case 'prepared':
      return current ? whenPrepared(membership, step, event.token, event.position) : [membership, []];
    case 'failed':
      return current ? whenFailed(membership, step, event.error) : [membership, []];
    case 'replied':
      return current && step === 'reply' ? whenReplied(membership, event.result) : [membership, []];
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
      return whenTimer(membership, phase, event.name);
  }
}

function whenTimer(membership: Membership, phase: Active, name: SubscriptionTimer): Step {
  switch (name) {
    case 'retry':
      return phase.name === 'subscribing' ? begin(membership, phase) : [membership, []];
    case 'refresh':
      return phase.name === 'subscribed'
        ? [membership, [{ do: 'prepare', round: membership.round, token: true, state: false }]]
        : [membership, []];
  }
}

function whenLinked(membership: Membership): Step {
  const { phase } = membership;
  return phase.name === 'subscribing' && phase.step === 'link' ? begin(membership, phase) : [membership, []];
}

function whenUnlinked(membership: Membership): Step {
  const { phase } = membership;
  return phase.name === 'unsubscribed' || phase.name === 'closed' ? [membership, []] : begin(membership, Reason.transportClosed);
}

/** The token is there: to subscribe with, or to refresh a subscription that stands. */
function whenPrepared(
  membership: Membership,
  step: SubscribingStep | undefined,
  token: string,
  position: StreamPosition | undefined,
): Step {
  const next = position ? { ...membership, token, position, recoverable: true } : { ...membership, token };
  switch (step) {
    case undefined:
      return [next, [{ do: 'refresh' }]];
    case 'credentials':
      return proceed(next, 'reply', { do: 'subscribe', round: next.round });
    default:
      return [membership, []];
  }
}

function whenFailed(membership: Membership, step: SubscribingStep | undefined, error: BobolinkError): Step {
  const { settings } = membership;
  const expired = error.code === ErrorCode.tokenExpired;
  const reload = error.code === ErrorCode.unrecoverablePosition && settings.loadsState;
  if (step === 'reply' && error.code === ErrorCode.timeout) {
    return [membership, [{ do: 'error', error }, { do: 'reconnect', ...Reason.subscribeTimeout }]];
  }
  if (!reload && !isRetryable(error)) {
    return withoutLeaving(end(membership, reasonOf(error), error), step);
  }
  if (expired && !settings.renewable) {
    return withoutLeaving(end(membership, Reason.unauthorized, error), step);
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
  const next = { ...membership, round: membership.round + 1 };
  const [after, effects] = enter(next, { name: 'subscribing', code, reason, step: linked ? 'credentials' : 'link' });
  const prepare: SubscriptionEffect = {
    do: 'prepare',
    round: next.round,
    token: settings.renewable && token === '',
    state: settings.loadsState && !position,
  };
  return [after, linked ? [...effects, prepare] : effects];
}

function proceed(membership: Membership, step: SubscribingStep, ...effects: SubscriptionEffect[]): Step {
  const phase = { ...(membership.phase as Extract<Phase, { name: 'subscribing' }>), step };
  return [{ ...membership, phase }, effects];
}

function retry(membership: Membership, { code, reason }: Why): Step {
  const { settings, attempt } = membership;
  const next = { ...membership, attempt: attempt + 1, round: membership.round + 1 };
  const [after, effects] = enter(next, { name: 'subscribing', code, reason, step: 'backoff' });
  const delay = backoff(attempt, settings.minResubscribeDelay, settings.maxResubscribeDelay);
  return [after, [...effects, { do: 'timer', name: 'retry', delay }]];
}

function end(membership: Membership, { code, reason }: Why, error?: BobolinkError): Step {
  return enter({ ...membership, round: membership.round + 1 }, { name: 'unsubscribed', code, reason, error });
}

/** Every change of phase: what served the old one ends before anybody is told. */
function enter(membership: Membership, phase: Phase): Step {
  const { phase: old, linked } = membership;
  const effects: SubscriptionEffect[] = [{ do: 'stop' }];
  const leaves = phase.name === 'unsubscribed' || phase.name === 'closed';
  // A command in flight is waited for by the server, which then undoes it.
  const held = old.name === 'subscribed' || (old.name === 'subscribing' && old.step === 'reply');
  if (leaves && held && linked) {
    effects.push({ do: 'unsubscribe' });
  }
  if (phase.name !== 'subscribing' || old.name !== 'subscribing') {
    effects.push({ do: 'report', state: subscriptionState(phase) });
  }
  return [{ ...membership, phase }, effects];
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
