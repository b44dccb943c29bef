/** What clients and subscriptions can be told, with defaults. */

import type { Codec } from './codec.js';
import type { Clock, Network } from './environment.js';
import type { Log } from './log.js';
import type { DeltaCodec, Schema } from './publication.js';
import type { Transport, WebSocketConstructor } from './transport.js';
import type { StreamPosition, TagsFilter } from './wire.js';

export interface ClientOptions {
  /** A token to begin with. */
  token?: string;
  /** Asked for a token when there is none or the last one expires. Throw `UnauthorizedError` to give up. */
  getToken?: () => string | Promise<string>;
  /** Custom data of the connect command. */
  data?: unknown;
  /** Asked for custom data before every attempt; wins over `data`. */
  getData?: () => unknown;
  /** Name and version of the application, for the server's statistics. */
  name?: string;
  version?: string;
  /** Headers handed to the application's backend; for browsers, which cannot set them on a WebSocket. */
  headers?: Record<string, string>;
  /** Milliseconds until a command or an attempt to connect counts as failed, 5000. */
  timeout?: number;
  /** Bound of the first random delay before reconnecting, 500 ms; it doubles with each failure. */
  minReconnectDelay?: number;
  /** 20000 ms. */
  maxReconnectDelay?: number;
  /** How much later than announced a ping may come, 10000 ms. */
  maxServerPingDelay?: number;
  /** Told everything that happens, without secrets. */
  log?: Log;
  /** The WebSocket to use instead of the global one, such as that of the package `ws`. */
  websocket?: WebSocketConstructor;
  /** How messages are written: JSON, unless this is `protobuf` from `@bobolink/client/protobuf`. */
  codec?: Codec;
  /** What carries frames instead of a WebSocket, such as a `FakeServer`. */
  transport?: Transport;
  clock?: Clock;
  random?: () => number;
  network?: Network;
}

export interface SubscriptionOptions<T = unknown> {
  token?: string;
  /** Asked for a subscription token. Throw `UnauthorizedError` to give up. */
  getToken?: (channel: string) => string | Promise<string>;
  /** Custom data of the subscribe command. */
  data?: unknown;
  getData?: (channel: string) => unknown;
  /** Begin after this place in the stream instead of with what comes next. */
  since?: StreamPosition;
  /**
   * Loads the application's own state and returns the position it belongs to. Called before the first
   * subscribe and whenever what was missed cannot be recovered. Read the position before the state:
   * publications that are in both may then come twice, but none is missing.
   */
  getState?: (channel: string) => StreamPosition | Promise<StreamPosition>;
  /** Ask for these where the channel leaves it to the client. */
  positioned?: boolean;
  recoverable?: boolean;
  joinLeave?: boolean;
  /** Let publications come as patches: `fossil` from `@bobolink/client/delta`. */
  delta?: DeltaCodec;
  /** Only publications whose tags fit. */
  tagsFilter?: TagsFilter;
  /** Checks the data of every publication; what does not fit becomes an `error` event. */
  schema?: Schema<T>;
  /** 500 and 20000 ms. */
  minResubscribeDelay?: number;
  maxResubscribeDelay?: number;
}

export interface PublishOptions {
  /**
   * Publishing again with the same key publishes nothing, for as long as the server remembers keys:
   * `idempotencyTtl` of the state `connected`.
   */
  idempotencyKey?: string;
}

export interface HistoryOptions {
  /** How many publications; none by default, which gives the position only. Negative: all that is allowed. */
  limit?: number;
  /** Begin behind this place. */
  since?: StreamPosition;
  /** The newest first. */
  reverse?: boolean;
}
