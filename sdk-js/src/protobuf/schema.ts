/** Fields of the client protocol's messages by number, as far as this SDK sends or reads them. */

/**
 * How a field stands on the wire: numbers, booleans and text, `json` as bytes of JSON, `raw` bytes,
 * a message, many of something, or a map from text.
 */
export type Kind = 'number' | 'boolean' | 'text' | 'json' | 'raw' | Message | { many: Kind } | { map: Kind };

export type Field = readonly [number: number, name: string, kind: Kind];

export class Message {
  readonly byNumber: ReadonlyMap<number, Field>;

  constructor(
    readonly fields: readonly Field[],
    /** What JSON never leaves out. */
    readonly absent: Readonly<Record<string, unknown>> = {},
  ) {
    this.byNumber = new Map(fields.map((field) => [field[0], field]));
  }
}

const info = new Message(
  [
    [1, 'user', 'text'],
    [2, 'client', 'text'],
    [3, 'conn_info', 'json'],
    [4, 'chan_info', 'json'],
  ],
  { user: '', client: '' },
);

const publication = new Message([
  [4, 'data', 'raw'],
  [5, 'info', info],
  [6, 'offset', 'number'],
  [7, 'tags', { map: 'text' }],
  [8, 'delta', 'boolean'],
]);

const position = new Message([
  [1, 'offset', 'number'],
  [2, 'epoch', 'text'],
]);

const filterFields: Field[] = [
  [1, 'op', 'text'],
  [2, 'key', 'text'],
  [3, 'cmp', 'text'],
  [4, 'val', 'text'],
  [5, 'vals', { many: 'text' }],
];
const filter = new Message(filterFields);
// Filters nest.
filterFields.push([6, 'nodes', { many: filter }]);

const subscribeRequest = new Message([
  [1, 'channel', 'text'],
  [2, 'token', 'text'],
  [3, 'recover', 'boolean'],
  [6, 'epoch', 'text'],
  [7, 'offset', 'number'],
  [8, 'data', 'json'],
  [9, 'positioned', 'boolean'],
  [10, 'recoverable', 'boolean'],
  [11, 'join_leave', 'boolean'],
  [12, 'delta', 'text'],
  [13, 'tf', filter],
  [14, 'flag', 'number'],
]);

const ofChannel = new Message([[1, 'channel', 'text']]);

export const command = new Message([
  [1, 'id', 'number'],
  [
    4,
    'connect',
    new Message([
      [1, 'token', 'text'],
      [2, 'data', 'json'],
      [3, 'subs', { map: subscribeRequest }],
      [4, 'name', 'text'],
      [5, 'version', 'text'],
      [6, 'headers', { map: 'text' }],
    ]),
  ],
  [5, 'subscribe', subscribeRequest],
  [6, 'unsubscribe', ofChannel],
  [
    7,
    'publish',
    new Message([
      [1, 'channel', 'text'],
      [2, 'data', 'json'],
      [1000, 'idempotency_key', 'text'],
    ]),
  ],
  [8, 'presence', ofChannel],
  [9, 'presence_stats', ofChannel],
  [
    10,
    'history',
    new Message([
      [1, 'channel', 'text'],
      [7, 'limit', 'number'],
      [8, 'since', position],
      [9, 'reverse', 'boolean'],
    ]),
  ],
  [12, 'send', new Message([[1, 'data', 'json']])],
  [
    13,
    'rpc',
    new Message([
      [1, 'data', 'json'],
      [2, 'method', 'text'],
    ]),
  ],
  [14, 'refresh', new Message([[1, 'token', 'text']])],
  [
    15,
    'sub_refresh',
    new Message([
      [1, 'channel', 'text'],
      [2, 'token', 'text'],
    ]),
  ],
]);

const expiry: Field[] = [
  [1, 'expires', 'boolean'],
  [2, 'ttl', 'number'],
];

const subscribeResult = new Message([
  ...expiry,
  [3, 'recoverable', 'boolean'],
  [6, 'epoch', 'text'],
  [7, 'publications', { many: publication }],
  [8, 'recovered', 'boolean'],
  [9, 'offset', 'number'],
  [10, 'positioned', 'boolean'],
  [11, 'data', 'json'],
  [12, 'was_recovering', 'boolean'],
  [13, 'delta', 'boolean'],
  [14, 'id', 'number'],
]);

const move = new Message([[1, 'info', info]]);

const push = new Message([
  [1, 'id', 'number'],
  [2, 'channel', 'text'],
  [4, 'pub', publication],
  [5, 'join', move],
  [6, 'leave', move],
  [
    7,
    'unsubscribe',
    new Message([
      [2, 'code', 'number'],
      [3, 'reason', 'text'],
    ]),
  ],
  [8, 'message', new Message([[1, 'data', 'json']])],
  [
    9,
    'subscribe',
    new Message([
      [1, 'recoverable', 'boolean'],
      [4, 'epoch', 'text'],
      [5, 'offset', 'number'],
      [6, 'positioned', 'boolean'],
      [7, 'data', 'json'],
    ]),
  ],
  [
    11,
    'disconnect',
    new Message([
      [1, 'code', 'number'],
      [2, 'reason', 'text'],
    ]),
  ],
  [12, 'refresh', new Message(expiry)],
]);

export const reply = new Message([
  [1, 'id', 'number'],
  [
    2,
    'error',
    new Message(
      [
        [1, 'code', 'number'],
        [2, 'message', 'text'],
        [3, 'temporary', 'boolean'],
      ],
      { code: 0, message: '' },
    ),
  ],
  [4, 'push', push],
  [
    5,
    'connect',
    new Message([
      [1, 'client', 'text'],
      [2, 'version', 'text'],
      [3, 'expires', 'boolean'],
      [4, 'ttl', 'number'],
      [5, 'data', 'json'],
      [6, 'subs', { map: subscribeResult }],
      [7, 'ping', 'number'],
      [8, 'pong', 'boolean'],
      [1000, 'publish_idempotency_ttl', 'number'],
    ]),
  ],
  [6, 'subscribe', subscribeResult],
  [7, 'unsubscribe', new Message([])],
  [8, 'publish', new Message([])],
  [9, 'presence', new Message([[1, 'presence', { map: info }]])],
  [
    10,
    'presence_stats',
    new Message([
      [1, 'num_clients', 'number'],
      [2, 'num_users', 'number'],
    ]),
  ],
  [
    11,
    'history',
    new Message([
      [1, 'publications', { many: publication }],
      [2, 'epoch', 'text'],
      [3, 'offset', 'number'],
    ]),
  ],
  [13, 'rpc', new Message([[1, 'data', 'json']])],
  [
    14,
    'refresh',
    new Message([
      [3, 'expires', 'boolean'],
      [4, 'ttl', 'number'],
    ]),
  ],
  [15, 'sub_refresh', new Message(expiry)],
]);
