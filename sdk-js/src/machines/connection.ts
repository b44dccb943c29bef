/**
 * The life of a connection, as a pure function: what it is and what happens in, what it becomes and
 * what is to be done out. `Client` does it and feeds back what comes of it.
 */

import { closing, INVALID_TOKEN, Reason, reasonOf, STATE_INVALIDATED } from '../codes.js';
import { BobolinkError, ErrorCode } from '../errors.js';
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
  readonly state: ClientState;
  /** While it is connecting, and only then. */
  readonly step?: ConnectingStep;
  /** Milliseconds after which a server that says nothing is gone; 0 for one that does not ping. */
  readonly silence: number;
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
  const state = { name: 'disconnected', ...Reason.called } as const;
  return { settings, state, silence: 0, token, attempt: 0, round: 0, online: true };
}

/** One dispatch for everything that can happen to a connection. */
export function stepConnection(connection: Connection, event: ConnectionEvent): Step {
  const { name } = connection.state;
  if (name === 'closed') {
    return [connection, []];
  }
  switch (event.type) {
    case 'connect':
      return name === 'disconnected' ? attempt({ ...connection, attempt: 0 }) : [connection, []];
    case 'disconnect':
      return name === 'disconnected' ? [connection, []] : end(connection, Reason.called);
    case 'close':
      return enter(connection, { name: 'closed' });
    case 'token':
      return [{ ...connection, token: event.token }, []];
    case 'online':
      return whenOnline({ ...connection, online: true });
    case 'offline':
      return name === 'disconnected'
        ? [{ ...connection, online: false }, []]
        : retry({ ...connection, online: false }, Reason.offline);
    default:
      return name === 'disconnected' ? [connection, []] : whenActive(connection, event);
  }
}

type ActiveEvent = Exclude<
  ConnectionEvent,
  { type: 'connect' | 'disconnect' | 'close' | 'token' | 'online' | 'offline' }
>;

function whenActive(connection: Connection, event: ActiveEvent): Step {
  const { step } = connection;
  if ('round' in event && event.round !== connection.round) {
    return [connection, []];
  }
  switch (event.type) {
    case 'credentials':
      return whenPrepared({ ...connection, token: event.token });
    case 'failed':
      return whenFailed(connection, event.error);
    case 'opened':
      return step === 'socket' ? [{ ...connection, step: 'welcome' }, [{ do: 'greet' }]] : [connection, []];
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
      return step === 'backoff' ? attempt(connection) : whenSilent(connection, event.idle);
    case 'timer':
      return whenTimer(connection, event.name, event.idle);
  }
}

function whenOnline(connection: Connection): Step {
  const { step } = connection;
  return step === 'backoff' || step === 'network' ? attempt(connection) : [connection, []];
}

function whenTimer(connection: Connection, name: ConnectionTimer, idle: number): Step {
  const { step, round } = connection;
  switch (name) {
    case 'retry':
      return step ? attempt(connection) : [connection, []];
    case 'welcome':
      return step
        ? whenFailed(connection, new BobolinkError(ErrorCode.timeout, 'connect timeout', true))
        : [connection, []];
    case 'silence':
      return whenSilent(connection, idle);
    case 'refresh':
      return [connection, step ? [] : [{ do: 'prepare', round, token: true }]];
  }
}

/** The token is there: to connect with, or to refresh a connection that stands. */
function whenPrepared(connection: Connection): Step {
  const { step, settings } = connection;
  if (!step) {
    return [connection, [{ do: 'refresh' }]];
  }
  const delay = exactly(settings.timeout);
  return step === 'credentials'
    ? [{ ...connection, step: 'socket' }, [{ do: 'timer', name: 'welcome', delay }, { do: 'open' }]]
    : [connection, []];
}

function whenFailed(connection: Connection, error: BobolinkError): Step {
  const expired = error.code === ErrorCode.tokenExpired;
  if (expired ? !connection.settings.renewable : !error.temporary) {
    return end(connection, reasonOf(error), error);
  }
  const next = expired ? { ...connection, token: '' } : connection;
  const [after, effects] = connection.step
    ? retry(next, Reason.transportClosed)
    : ([next, [{ do: 'timer', name: 'refresh', delay: REFRESH_RETRY }]] satisfies Step);
  return [after, [{ do: 'error', error }, ...effects]];
}

function whenWelcomed(connection: Connection, result: ConnectResult): Step {
  const { client, version, data, ping = 0, publish_idempotency_ttl: idempotencyTtl } = result;
  const silence = ping && ping * 1000 + connection.settings.maxServerPingDelay;
  const state = { name: 'connected', client, version, data, idempotencyTtl } as const;
  const [next, effects] = enter({ ...connection, attempt: 0, silence }, state);
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
  const { step, silence } = connection;
  if (step || !silence) {
    return [connection, []];
  }
  return idle >= silence
    ? retry(connection, Reason.noPing)
    : [connection, [{ do: 'timer', name: 'silence', delay: exactly(silence - idle) }]];
}

type Why = { code: number; reason: string };

/** Begins an attempt at its beginning. */
function attempt(connection: Connection): Step {
  const { settings, token } = connection;
  const [next, effects] = enter(connection, { name: 'connecting', ...Reason.called }, 'credentials');
  const ask = settings.renewable && token === '';
  return [next, [...effects, { do: 'prepare', round: next.round, token: ask }]];
}

/** Gives up what there is and tries again after a while, or once there is a network. */
function retry(connection: Connection, { code, reason }: Why): Step {
  const { settings, online, attempt: failures } = connection;
  const state = { name: 'connecting', code, reason } as const;
  const [next, effects] = enter({ ...connection, attempt: failures + 1 }, state, online ? 'backoff' : 'network');
  const delay = backoff(failures, settings.minReconnectDelay, settings.maxReconnectDelay);
  return [next, online ? [...effects, { do: 'timer', name: 'retry', delay }] : effects];
}

function end(connection: Connection, { code, reason }: Why, error?: BobolinkError): Step {
  return enter(connection, { name: 'disconnected', code, reason, error });
}

/**
 * Every change of state and every new attempt: what served the old one ends before anybody is told, and
 * an answer that is still to come belongs to what was given up. Attempts follow each other within one
 * state, which keeps the reason for which it began.
 */
function enter(connection: Connection, state: ClientState, step?: ConnectingStep): Step {
  const next = { ...connection, step, round: connection.round + 1 };
  const effects: ConnectionEffect[] = [{ do: 'stop' }];
  if (state.name !== 'connected') {
    effects.push({ do: 'hangUp' });
  }
  return step && connection.step ? [next, effects] : [{ ...next, state }, [...effects, { do: 'report', state }]];
}
