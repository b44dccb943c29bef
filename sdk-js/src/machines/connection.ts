/**
 * The life of a connection, as a pure function: what it is and what happens in, what it becomes and
 * what is to be done out. `Client` does it and feeds back what comes of it.
 */

import { closing, INVALID_TOKEN, Reason, reasonOf, STATE_INVALIDATED } from '../codes.js';
import { BobolinkError, ErrorCode, isRetryable } from '../errors.js';
import { backoff, exactly, expiry, REFRESH_RETRY, type Delay } from '../timers.js';
import type { ConnectResult, Expiry } from '../wire.js';

/** What an application sees of a connection. */
export type ClientState =
  | { readonly name: 'disconnected'; readonly code: number; readonly reason: string; readonly error?: BobolinkError }
  | { readonly name: 'connecting'; readonly code: number; readonly reason: string }
  | {
      readonly name: 'connected';
      readonly client: string;
      readonly version?: string;
      readonly data?: unknown;
      /** Seconds for which the server remembers idempotency keys of `publish`; absent if it knows none. */
      readonly idempotencyTtl?: number;
    }
  | { readonly name: 'closed' };

/** What a connecting client waits for, in order; `backoff` and `network` come after a failure. */
export type ConnectingStep = 'credentials' | 'socket' | 'welcome' | 'backoff' | 'network';

type Phase =
  | Exclude<ClientState, { name: 'connecting' | 'connected' }>
  | { name: 'connecting'; code: number; reason: string; step: ConnectingStep }
  | (Extract<ClientState, { name: 'connected' }> & { silence: number });

export interface ConnectionSettings {
  /** Whether a token can be asked for. */
  renewable: boolean;
  /** All in milliseconds. */
  timeout: number;
  minReconnectDelay: number;
  maxReconnectDelay: number;
  maxServerPingDelay: number;
}

/** With defaults. */
export function settingsOf({ getToken, ...given }: Partial<ConnectionSettings> & { getToken?: unknown }): ConnectionSettings {
  const { timeout = 5_000, minReconnectDelay = 500, maxReconnectDelay = 20_000, maxServerPingDelay = 10_000 } = given;
  return { renewable: !!getToken, timeout, minReconnectDelay, maxReconnectDelay, maxServerPingDelay };
}

export interface Connection {
  readonly settings: ConnectionSettings;
  readonly phase: Phase;
  readonly token: string;
  /** Failed attempts since the last welcome. */
  readonly attempt: number;
  /** Numbers the attempts, so that an answer to an earlier one is known as such. */
  readonly round: number;
  readonly online: boolean;
}

export type ConnectionTimer = 'retry' | 'welcome' | 'silence' | 'refresh';

export type ConnectionEvent =
  | { type: 'connect' | 'disconnect' | 'close' }
  | { type: 'restart'; code: number; reason: string }
  | { type: 'token'; token: string }
  | { type: 'credentials'; round: number; token: string }
  | { type: 'failed'; round: number; error: BobolinkError }
  | { type: 'opened' }
  | { type: 'lost'; code: number; reason: string }
  /** The server sent what is no message. */
  | { type: 'garbled'; error: BobolinkError }
  | { type: 'welcomed'; result: ConnectResult }
  | { type: 'refreshed'; expiry: Expiry }
  | { type: 'online' | 'offline' }
  /** `idle` is for how many milliseconds nothing was heard. */
  | { type: 'visible'; idle: number }
  | { type: 'timer'; name: ConnectionTimer; idle: number };

export type ConnectionEffect =
  | { do: 'report'; state: ClientState }
  /** Get a token, if `token` says so, and the data to connect with. */
  | { do: 'prepare'; round: number; token: boolean }
  | { do: 'open' | 'greet' | 'hangUp' | 'refresh' }
  | { do: 'timer'; name: ConnectionTimer; delay: Delay }
  /** One timer, or all of them. */
  | { do: 'stop'; timer?: ConnectionTimer }
  /** Forget positions and tokens of every subscription. */
  | { do: 'invalidate' }
  | { do: 'error'; error: BobolinkError };

type Step = [Connection, ConnectionEffect[]];

export function newConnection(settings: ConnectionSettings, token: string): Connection {
  const phase = { name: 'disconnected', ...Reason.called } as const;
  return { settings, phase, token, attempt: 0, round: 0, online: true };
}

/** One dispatch for everything that can happen to a connection. */
export function stepConnection(connection: Connection, event: ConnectionEvent): Step {
  const { phase } = connection;
  if (phase.name === 'closed') {
    return [connection, []];
  }
  switch (event.type) {
    case 'connect':
      return phase.name === 'disconnected' ? attempt({ ...connection, attempt: 0 }, Reason.called) : [connection, []];
    case 'disconnect':
      return phase.name === 'disconnected' ? [connection, []] : end(connection, Reason.called);
    case 'close':
      return enter(connection, { name: 'closed' });
    case 'token':
      return [{ ...connection, token: event.token }, []];
    case 'online':
      return isWaiting(phase) ? attempt({ ...connection, online: true }, phase) : [{ ...connection, online: true }, []];
    case 'offline':
      return whenOffline({ ...connection, online: false });
    default:
      return phase.name === 'disconnected' ? [connection, []] : whenActive(connection, phase, event);
  }
}

/** What an application sees of a phase. */
export function clientState(phase: Phase): ClientState {
  switch (phase.name) {
    case 'connecting':
      return { name: phase.name, code: phase.code, reason: phase.reason };
    case 'connected': {
      const { client, version, data, idempotencyTtl } = phase;
      return { name: phase.name, client, version, data, idempotencyTtl };
    }
    default:
      return phase;
  }
}

type Active = Extract<Phase, { name: 'connecting' | 'connected' }>;
type ActiveEvent = Exclude<
  ConnectionEvent,
  { type: 'connect' | 'disconnect' | 'close' | 'token' | 'online' | 'offline' }
>;

function whenActive(connection: Connection, phase: Active, event: ActiveEvent): Step {
  const step = phase.name === 'connecting' ? phase.step : undefined;
  const current = !('round' in event) || event.round === connection.round;
  switch (event.type) {
    case 'credentials':
      return current ? whenPrepared({ ...connection, token: event.token }, step) : [connection, []];
    case 'failed':
      return current ? whenFailed(connection, step, event.error) : [connection, []];
    case 'opened':
      return step === 'socket' ? proceed(connection, 'welcome', { do: 'greet' }) : [connection, []];
    case 'welcomed':
      return step === 'welcome' ? whenWelcomed(connection, event.result) : [connection, []];
    case 'refreshed':
      return [connection, step ? [] : expiry(connection, event.expiry)];
    case 'lost':
      return whenLost(connection, event.code, event.reason);
    case 'garbled':
      return end(connection, Reason.badProtocol, event.error);
    case 'restart':
      return retry(connection, event);
    case 'visible':
      return step === 'backoff' ? attempt(connection, phase as Why) : whenSilent(connection, event.idle);
    case 'timer':
      return whenTimer(connection, event.name, event.idle);
  }
}

function whenTimer(connection: Connection, name: ConnectionTimer, idle: number): Step {
  const { phase } = connection;
  switch (name) {
    case 'retry':
      return phase.name === 'connecting' ? attempt(connection, phase) : [connection, []];
    case 'welcome':
      return whenFailed(connection, 'welcome', new BobolinkError(ErrorCode.timeout, 'connect timeout', true));
    case 'silence':
      return whenSilent(connection, idle);
    case 'refresh':
      return [connection, phase.name === 'connected' ? [{ do: 'prepare', round: connection.round, token: true }] : []];
  }
}

/** The token is there: to connect with, or to refresh a connection that stands. */
function whenPrepared(connection: Connection, step: ConnectingStep | undefined): Step {
  if (!step) {
    return [connection, [{ do: 'refresh' }]];
  }
  const delay = exactly(connection.settings.timeout);
  return step === 'credentials'
    ? proceed(connection, 'socket', { do: 'timer', name: 'welcome', delay }, { do: 'open' })
    : [connection, []];
}

function whenFailed(connection: Connection, step: ConnectingStep | undefined, error: BobolinkError): Step {
  const expired = error.code === ErrorCode.tokenExpired;
  if (!isRetryable(error)) {
    return end(connection, reasonOf(error), error);
  }
  if (expired && !connection.settings.renewable) {
    return end(connection, Reason.unauthorized, error);
  }
  const next = expired ? { ...connection, token: '' } : connection;
  const [after, effects] = step
    ? retry(next, Reason.transportClosed)
    : ([next, [{ do: 'timer', name: 'refresh', delay: REFRESH_RETRY }]] satisfies Step);
  return [after, [{ do: 'error', error }, ...effects]];
}

function whenWelcomed(connection: Connection, result: ConnectResult): Step {
  const { client, version, data, ping = 0, publish_idempotency_ttl: idempotencyTtl } = result;
  const silence = ping && ping * 1000 + connection.settings.maxServerPingDelay;
  const [next, effects] = enter(
    { ...connection, attempt: 0 },
    { name: 'connected', client, version, data, idempotencyTtl, silence },
  );
  return [next, [...effects, ...expiry(next, result), ...whenSilent(next, 0)[1]]];
}

function whenLost(connection: Connection, closeCode: number, closeReason: string): Step {
  const { code, reason, terminal } = closing(closeCode, closeReason);
  if (terminal) {
    const renew = code === INVALID_TOKEN && connection.settings.renewable;
    const next = renew ? { ...connection, token: '' } : connection;
    return end(next, { code, reason }, new BobolinkError(code, reason));
  }
  if (code !== STATE_INVALIDATED) {
    return retry(connection, { code, reason });
  }
  const [next, effects] = retry({ ...connection, token: '' }, { code, reason });
  return [next, [...effects, { do: 'invalidate' }]];
}

/** A server that pings and was not heard for too long is gone, even if the socket does not know. */
function whenSilent(connection: Connection, idle: number): Step {
  const { phase } = connection;
  if (phase.name !== 'connected' || phase.silence === 0) {
    return [connection, []];
  }
  return idle >= phase.silence
    ? retry(connection, Reason.noPing)
    : [connection, [{ do: 'timer', name: 'silence', delay: exactly(phase.silence - idle) }]];
}

function whenOffline(connection: Connection): Step {
  const { phase } = connection;
  return phase.name === 'connecting' || phase.name === 'connected' ? retry(connection, Reason.offline) : [connection, []];
}

type Why = { code: number; reason: string };

/** Begins an attempt at its beginning. */
function attempt(connection: Connection, { code, reason }: Why): Step {
  const { settings, token } = connection;
  const next = { ...connection, round: connection.round + 1 };
  const [after, effects] = enter(next, { name: 'connecting', code, reason, step: 'credentials' });
  const ask = settings.renewable && token === '';
  return [after, [...effects, { do: 'prepare', round: next.round, token: ask }]];
}

function proceed(connection: Connection, step: ConnectingStep, ...effects: ConnectionEffect[]): Step {
  const phase = { ...(connection.phase as Extract<Phase, { name: 'connecting' }>), step };
  return [{ ...connection, phase }, effects];
}

/** Gives up what there is and tries again after a while, or once there is a network. */
function retry(connection: Connection, { code, reason }: Why): Step {
  const { settings, online } = connection;
  // An answer that is still to come belongs to what was given up.
  const next = { ...connection, attempt: connection.attempt + 1, round: connection.round + 1 };
  const [after, effects] = enter(next, { name: 'connecting', code, reason, step: online ? 'backoff' : 'network' });
  const delay = backoff(connection.attempt, settings.minReconnectDelay, settings.maxReconnectDelay);
  return [after, online ? [...effects, { do: 'timer', name: 'retry', delay }] : effects];
}

function end(connection: Connection, { code, reason }: Why, error?: BobolinkError): Step {
  return enter({ ...connection, round: connection.round + 1 }, { name: 'disconnected', code, reason, error });
}

/** Every change of phase: what served the old one ends before anybody is told. */
function enter(connection: Connection, phase: Phase): Step {
  const effects: ConnectionEffect[] = [{ do: 'stop' }];
  if (phase.name !== 'connected') {
    effects.push({ do: 'hangUp' });
  }
  if (phase.name !== 'connecting' || connection.phase.name !== 'connecting') {
    effects.push({ do: 'report', state: clientState(phase) });
  }
  return [{ ...connection, phase }, effects];
}

function isWaiting(phase: Phase): phase is Extract<Phase, { name: 'connecting' }> {
  return phase.name === 'connecting' && (phase.step === 'backoff' || phase.step === 'network');
}
