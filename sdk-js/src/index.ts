/** A client of the Centrifuge protocol: connections, subscriptions, recovery, typed to the end. */

export { Client, type ClientEvents } from './client.js';
export { Subscription, type SubscriptionEvents } from './subscription.js';
export { BobolinkError, ErrorCode, UnauthorizedError } from './errors.js';
export { EventLog, type Log, type LogEntry } from './log.js';
export type { Codec, Frame } from './codec.js';
export { webSocketTransport } from './transport.js';
export type { Undo } from './emitter.js';
export type { Clock, Network, NetworkEvent } from './environment.js';
export type { ClientState } from './machines/connection.js';
export type { SubscriptionState } from './machines/subscription.js';
export type { ClientOptions, HistoryOptions, PublishOptions, SubscriptionOptions } from './options.js';
export type { ClientInfo, DeltaCodec, DeltaDecoder, History, PresenceStats, Publication, Schema } from './publication.js';
export type { ServerSideEvents } from './server_side.js';
export type { StreamOptions } from './stream.js';
export type { Socket, Transport, TransportListener, WebSocketConstructor, WebSocketLike } from './transport.js';
export type { StreamPosition, TagsFilter } from './wire.js';
