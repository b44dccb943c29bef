/** Errors of the SDK: each has a code, a message, and says whether trying again can help. */

/** Codes below 100 are the SDK's own; from 100 on they are the server's (docs/codes.md). */
export const ErrorCode = {
  /** No answer came in time. */
  timeout: 1,
  /** The connection broke before the answer came; whether the command was carried out is unknown. */
  connectionLost: 2,
  /** The client is disconnected and is not trying to connect. */
  disconnected: 3,
  /** The client or subscription was closed. */
  closed: 4,
  /** `getToken` or `getData` of the client failed. */
  credentials: 5,
  /** The server sent what is no message of the protocol. */
  badProtocol: 6,
  /** The subscription is not subscribed and is not trying to be. */
  unsubscribed: 7,
  /** `getToken`, `getData` or `getState` of a subscription failed. */
  subscriptionCredentials: 8,
  /** More publications waited for a slow reader than its buffer takes. */
  bufferFull: 20,
  /** A publication does not fit the channel's schema, what is to be sent cannot be written as JSON, or a channel has no name. */
  badData: 21,
  /** The store of the outbox failed. */
  store: 24,
  /** A patch does not fit what came before it. */
  badPatch: 22,
  /** The token is not accepted, or there is none. */
  unauthorized: 101,
  /** The token was valid once; a new one is asked for. */
  tokenExpired: 109,
  /** The stream does not reach back to the position, or is another stream by now. */
  unrecoverablePosition: 112,
} as const;

/** What every rejected promise and every `error` event of the SDK carries. */
export class BobolinkError extends Error {
  override readonly name: string = 'BobolinkError';

  constructor(
    readonly code: number,
    message: string,
    /** Whether the same call may succeed later. */
    readonly temporary = false,
    options?: { cause?: unknown },
  ) {
    super(message, options);
  }
}

/** Thrown by a token callback to say: this user may not; do not ask again. */
export class UnauthorizedError extends BobolinkError {
  override readonly name = 'UnauthorizedError';

  constructor(message = 'unauthorized') {
    super(ErrorCode.unauthorized, message);
  }
}

/** What a callback of the application threw, as an error of ours. */
export function callbackError(code: number, cause: unknown): BobolinkError {
  // By name, since the ESM and the CJS build of this package each have a class of their own.
  return cause instanceof Error && cause.name === 'UnauthorizedError'
    ? new UnauthorizedError(cause.message)
    : new BobolinkError(code, 'a callback failed', true, { cause });
}
