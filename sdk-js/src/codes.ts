/** The codes with which states change, and what the numbers of the server mean for a client. */

import { ErrorCode, type BobolinkError } from './errors.js';

/** Why a client or subscription is in a state, where the reason is on this side (below 2000). */
export const Reason = {
  /** The application called for it. */
  called: { code: 0, reason: 'called' },
  transportClosed: { code: 1, reason: 'transport closed' },
  noPing: { code: 2, reason: 'no ping' },
  subscribeTimeout: { code: 3, reason: 'subscribe timeout' },
  unsubscribeError: { code: 4, reason: 'unsubscribe error' },
  offline: { code: 5, reason: 'offline' },
  unauthorized: { code: 1, reason: 'unauthorized' },
  badProtocol: { code: 2, reason: 'bad protocol' },
  messageTooBig: { code: 3, reason: 'message size limit' },
  badPatch: { code: 6, reason: 'bad patch' },
} as const;

/** WebSocket's own code for a message above the limit; sending it again would not help. */
const MESSAGE_TOO_BIG = 1009;
/** The token does not verify: asking with it again would not help, a new one may. */
export const INVALID_TOKEN = 3500;
/** What the client holds is void: tokens and positions are dropped before it reconnects. */
export const STATE_INVALIDATED = 3014;
/** The same for one subscription. */
export const SUBSCRIPTION_INVALIDATED = 2502;
/** The subscription was not refreshed in time. */
export const SUBSCRIPTION_EXPIRED = 2501;
/** Unsubscribes from here on are answered by subscribing again. */
const RESUBSCRIBE = 2500;

/** What the close of a socket means. */
export function closing(code: number, reason: string): { code: number; reason: string; terminal: boolean } {
  if (code === MESSAGE_TOO_BIG) {
    return { ...Reason.messageTooBig, terminal: true };
  }
  if (code < 3000) {
    return { ...Reason.transportClosed, terminal: false };
  }
  return { code, reason, terminal: code < 5000 && code % 1000 >= 500 };
}

/** Why a client or subscription ends after an error. */
export function reasonOf({ code, message }: BobolinkError): { code: number; reason: string } {
  const { unauthorized, tokenExpired } = ErrorCode;
  return code === unauthorized || code === tokenExpired ? Reason.unauthorized : { code, reason: message };
}

/** Whether a subscription that the server ended with this code subscribes again. */
export function resubscribes(code: number): boolean {
  return code >= RESUBSCRIBE;
}
