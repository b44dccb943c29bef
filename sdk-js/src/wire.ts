/** Messages of the client protocol as they stand in JSON. */

/** A place in a channel's stream. */
export interface StreamPosition {
  readonly offset: number;
  /** Changes when the stream starts anew; offsets of different epochs do not compare. */
  readonly epoch: string;
}

export interface WireError {
  code: number;
  message: string;
  temporary?: boolean;
}

export interface WireInfo {
  user: string;
  client: string;
  conn_info?: unknown;
  chan_info?: unknown;
}

export interface WirePublication {
  data?: unknown;
  offset?: number;
  info?: WireInfo;
  tags?: Record<string, string>;
  delta?: boolean;
}

/** A condition on the tags of publications. Leaves compare, `and`, `or` and `not` join. */
export type TagsFilter =
  | { key: string; cmp: 'eq' | 'neq' | 'sw' | 'ew' | 'ct' | 'gt' | 'gte' | 'lt' | 'lte'; val: string }
  | { key: string; cmp: 'in' | 'nin'; vals: string[] }
  | { key: string; cmp: 'ex' | 'nex' }
  | { op: 'and' | 'or' | 'not'; nodes: TagsFilter[] };

export interface Expiry {
  expires?: boolean;
  /** Seconds. */
  ttl?: number;
}

export interface ConnectRequest {
  token?: string;
  data?: unknown;
  name?: string;
  version?: string;
  headers?: Record<string, string>;
  /** What is wished of subscriptions that the server makes. */
  subs?: Record<string, Pick<SubscribeRequest, 'recover' | 'offset' | 'epoch' | 'delta'>>;
}

export interface ConnectResult extends Expiry {
  client: string;
  version?: string;
  data?: unknown;
  subs?: Record<string, SubscribeResult>;
  /** Seconds between pings; absent if there are none. */
  ping?: number;
  pong?: boolean;
  /** Seconds for which idempotency keys are remembered; absent from servers that know none. */
  publish_idempotency_ttl?: number;
}

export interface SubscribeRequest {
  channel: string;
  token?: string;
  data?: unknown;
  recover?: boolean;
  offset?: number;
  epoch?: string;
  positioned?: boolean;
  recoverable?: boolean;
  join_leave?: boolean;
  delta?: string;
  tf?: TagsFilter;
  flag?: number;
}

/** Bits of `SubscribeRequest.flag`. */
export const SubscribeFlag = { compaction: 1, rejectUnrecovered: 2 } as const;

export interface SubscribeResult extends Expiry {
  recoverable?: boolean;
  positioned?: boolean;
  epoch?: string;
  offset?: number;
  publications?: WirePublication[];
  recovered?: boolean;
  was_recovering?: boolean;
  data?: unknown;
  delta?: boolean;
  id?: number;
}

export interface Requests {
  connect: ConnectRequest;
  subscribe: SubscribeRequest;
  unsubscribe: { channel: string };
  publish: { channel: string; data: unknown; idempotency_key?: string };
  presence: { channel: string };
  presence_stats: { channel: string };
  history: { channel: string; limit?: number; since?: StreamPosition; reverse?: boolean };
  rpc: { method?: string; data?: unknown };
  refresh: { token: string };
  sub_refresh: { channel: string; token: string };
}

export interface Results {
  connect: ConnectResult;
  subscribe: SubscribeResult;
  unsubscribe: object;
  publish: object;
  presence: { presence?: Record<string, WireInfo> };
  presence_stats: { num_clients?: number; num_users?: number };
  history: { publications?: WirePublication[]; epoch?: string; offset?: number };
  rpc: { data?: unknown };
  refresh: Expiry;
  sub_refresh: Expiry;
}

export type Verb = keyof Requests;

export type Command = { id?: number; send?: { data: unknown } } & Partial<Requests>;

export interface Push {
  id?: number;
  channel?: string;
  pub?: WirePublication;
  join?: { info: WireInfo };
  leave?: { info: WireInfo };
  subscribe?: SubscribeResult;
  unsubscribe?: { code?: number; reason?: string };
  message?: { data?: unknown };
  refresh?: Expiry;
  disconnect?: { code?: number; reason?: string };
}

export type Reply = { id?: number; error?: WireError; push?: Push } & Partial<Results>;
