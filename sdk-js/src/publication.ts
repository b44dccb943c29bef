/** Publications and what comes with them, as applications see them. */

import { BobolinkError, ErrorCode } from './errors.js';
import type { Results, StreamPosition, SubscribeResult, WireInfo, WirePublication } from './wire.js';

export interface ClientInfo {
  /** Empty for anonymous users. */
  readonly user: string;
  /** Names the connection. */
  readonly client: string;
  readonly connInfo?: unknown;
  readonly chanInfo?: unknown;
}

export interface Publication<T = unknown> {
  readonly channel: string;
  readonly data: T;
  /** Place in the channel's stream; absent if the channel has none. */
  readonly offset?: number;
  /** Who published it, if a client did. */
  readonly info?: ClientInfo;
  readonly tags?: Readonly<Record<string, string>>;
}

export interface History<T> {
  readonly publications: readonly Publication<T>[];
  /** Where the stream stands. */
  readonly position: StreamPosition;
}

export interface PresenceStats {
  readonly clients: number;
  readonly users: number;
}

/** Checks that data is what a channel carries and returns it, or throws. Zod's schemas fit. */
export type Schema<T> = ((data: unknown) => T) | { parse(data: unknown): T };

/** Given every message of a stream and whether it is a patch; throws if a patch does not fit. */
export type DeltaDecoder = <Data extends string | Uint8Array>(data: Data, patch?: boolean) => Data;

/** Data that came as patches against its predecessor, made whole: one decoder per stream. */
export interface DeltaCodec {
  readonly name: string;
  decoder(): DeltaDecoder;
}

/** How a subscription came about. */
export interface Standing {
  /** Whether the subscription asked for what it had missed. */
  readonly wasRecovering: boolean;
  /** Whether it got all of it. If not, load the state anew. */
  readonly recovered: boolean;
  readonly recoverable: boolean;
  readonly positioned: boolean;
  /**
   * What comes is what lies behind this place: after a recovery the one that was asked for, since what was
   * missed follows as publications, and otherwise the top of the stream. A subscription's own `position`
   * moves on with every publication.
   */
  readonly position?: StreamPosition;
  readonly data?: unknown;
}

export function standingOf(result: SubscribeResult): Standing {
  const { recoverable = false, positioned = false, recovered = false, was_recovering = false, data } = result;
  const tracked = recoverable || positioned;
  const position = tracked ? { offset: result.offset ?? 0, epoch: result.epoch ?? '' } : undefined;
  return { wasRecovering: was_recovering, recovered, recoverable, positioned: tracked, position, data };
}

export function clientInfo({ user, client, conn_info, chan_info }: WireInfo): ClientInfo {
  return { user, client, connInfo: conn_info, chanInfo: chan_info };
}

/** A publication with data that was decoded already. */
export function publication<T>(channel: string, { offset, info, tags }: WirePublication, data: T): Publication<T> {
  return { channel, data, offset, info: info && clientInfo(info), tags };
}

/** The data as the schema gives it back. */
export function parsed<T>(schema: Schema<T> | undefined, data: unknown): T {
  if (!schema) {
    return data as T;
  }
  try {
    return typeof schema === 'function' ? schema(data) : schema.parse(data);
  } catch (cause) {
    throw new BobolinkError(ErrorCode.badData, 'data does not fit the schema', false, { cause });
  }
}

/** What `read` leaves out is left out here. */
export function historyOf<T>(
  { publications = [], offset = 0, epoch = '' }: Results['history'],
  read: (wire: WirePublication) => Publication<T> | undefined,
): History<T> {
  return { publications: publications.flatMap((wire) => read(wire) ?? []), position: { offset, epoch } };
}

export function presenceOf({ presence = {} }: Results['presence']): Record<string, ClientInfo> {
  return Object.fromEntries(Object.entries(presence).map(([client, info]) => [client, clientInfo(info)]));
}

export function presenceStatsOf({ num_clients = 0, num_users = 0 }: Results['presence_stats']): PresenceStats {
  return { clients: num_clients, users: num_users };
}
