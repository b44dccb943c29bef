/**
 * A server in memory, for the tests of applications: give its `transport` to a client.
 *
 * Every channel has history and recovers. It answers in microtasks and has no timers, so that it works
 * with the fake clocks of test runners.
 */

import type { Frame } from './codec.js';
import { BobolinkError } from './errors.js';
import type { Socket, Transport, TransportListener } from './transport.js';
import type { Command, Push, Reply, Results, SubscribeRequest, SubscribeResult, WireInfo, WirePublication } from './wire.js';

export interface FakeServerOptions {
  /** Publications a channel keeps, 100 by default. */
  historySize?: number;
  /** Seconds between announced pings; they are sent by `ping()`. None by default. */
  ping?: number;
  /**
   * The user of a connection token, by default the token itself. Throw a `BobolinkError` to refuse:
   * from code 3000 on it closes the connection.
   */
  authenticate?: (token: string) => string;
  /** Seconds for which idempotency keys are remembered, as far as clients are told; a day. 0 for none. */
  idempotencyTtl?: number;
  /** Called before a subscription; throw a `BobolinkError` to refuse it. */
  authorize?: (channel: string, request: SubscribeRequest, user: string) => void;
  /** Answers calls; throw a `BobolinkError` to fail them. */
  rpc?: (method: string, data: unknown, user: string) => unknown;
}

interface Channel {
  epoch: string;
  offset: number;
  /** Numbers that pushes may use instead of the name. */
  id: number;
  publications: WirePublication[];
}

/** What the socket of a cut line closes with. */
const ABNORMAL = 1006;

export class FakeServer {
  /** Every command received, in order. */
  readonly commands: Command[] = [];
  /** Answered pings. */
  pongs = 0;
  readonly #channels = new Map<string, Channel>();
  readonly #connections = new Set<Connection>();
  /** Idempotency keys that were used, with user and channel. */
  readonly #keys = new Set<string>();
  #reachable = true;
  #made = 0;

  constructor(readonly options: FakeServerOptions = {}) {}

  readonly transport: Transport = (_endpoint, listener) => {
    const connection = new Connection(this, listener, `client-${++this.#made}`);
    this.#connections.add(connection);
    queueMicrotask(() => (this.#reachable ? connection.listener?.opened() : connection.end(ABNORMAL, '')));
    return connection;
  };

  /** How many connections are open. */
  get connections(): number {
    return this.#connections.size;
  }

  publish(channel: string, data: unknown, { tags, info }: Pick<WirePublication, 'tags' | 'info'> = {}): void {
    const stream = this.channel(channel);
    const publication = { data, offset: ++stream.offset, tags, info };
    stream.publications.push(publication);
    stream.publications.splice(0, stream.publications.length - (this.options.historySize ?? 100));
    this.#push(channel, { pub: publication });
  }

  /** What a channel keeps, the oldest first. */
  history(channel: string): readonly WirePublication[] {
    return this.channel(channel).publications;
  }

  /** Sends a message to every connection. */
  message(data: unknown): void {
    this.#connections.forEach((connection) => connection.reply({ push: { message: { data } } }));
  }

  ping(): void {
    this.#connections.forEach((connection) => connection.reply({}));
  }

  /** Closes every connection with a code (docs/codes.md). */
  disconnect(code: number, reason = ''): void {
    this.#connections.forEach((connection) => connection.end(code, reason));
  }

  /** Ends the subscriptions to a channel; clients subscribe again from code 2500 on. */
  unsubscribe(channel: string, code = 2000, reason = 'server unsubscribe'): void {
    for (const connection of this.#connections) {
      if (connection.subscriptions.delete(channel)) {
        connection.reply({ push: { channel, unsubscribe: { code, reason } } });
      }
    }
  }

  /** Breaks every connection and refuses new ones until `mend`. */
  cut(): void {
    this.#reachable = false;
    this.disconnect(ABNORMAL);
  }

  mend(): void {
    this.#reachable = true;
  }

  /** Forgets a channel's publications and begins a new epoch: nothing can be recovered. */
  forget(channel: string): void {
    const { id, epoch } = this.channel(channel);
    this.#channels.set(channel, { id, epoch: `${epoch}'`, offset: 0, publications: [] });
  }

  /** @internal */
  channel(name: string): Channel {
    const id = this.#channels.size + 1;
    const channel = this.#channels.get(name) ?? { epoch: 'fake', offset: 0, id, publications: [] };
    this.#channels.set(name, channel);
    return channel;
  }

  /** @internal */
  left(connection: Connection): void {
    this.#connections.delete(connection);
    [...connection.subscriptions.keys()].forEach((channel) => this.moved(channel, connection, 'leave'));
  }

  /** @internal Somebody came into a channel or left it. */
  moved(channel: string, { info }: Connection, move: 'join' | 'leave'): void {
    this.#push(channel, { [move]: { info } }, ({ join_leave }) => join_leave === true);
  }

  /** @internal */
  get idempotencyTtl(): number {
    return this.options.idempotencyTtl ?? 86_400;
  }

  /** @internal Whether a client published this before. */
  isRepeat(user: string, channel: string, key: string | undefined): boolean {
    const whole = JSON.stringify([user, channel, key]);
    const known = this.#keys.has(whole);
    if (key && user && this.idempotencyTtl) {
      this.#keys.add(whole);
    }
    return known;
  }

  /** @internal Connections by their id. */
  present(channel: string): Record<string, WireInfo> {
    const there = [...this.#connections].filter(({ subscriptions }) => subscriptions.has(channel));
    return Object.fromEntries(there.map(({ info }) => [info.client, info]));
  }

  #push(channel: string, push: Push, to: (request: SubscribeRequest) => boolean = () => true): void {
    for (const connection of this.#connections) {
      const request = connection.subscriptions.get(channel);
      if (request && to(request)) {
        const compact = ((request.flag ?? 0) & 1) !== 0;
        connection.reply({ push: { ...push, ...(compact ? { id: this.channel(channel).id } : { channel }) } });
      }
    }
  }
}

class Connection implements Socket {
  readonly subscriptions = new Map<string, SubscribeRequest>();
  info: WireInfo;
  listener: TransportListener | undefined;

  constructor(
    readonly server: FakeServer,
    listener: TransportListener,
    client: string,
  ) {
    this.listener = listener;
    this.info = { user: '', client };
  }

  send(frame: Frame): void {
    for (const line of String(frame).split('\n')) {
      const command = JSON.parse(line) as Command;
      if (Object.keys(command).length === 0) {
        this.server.pongs += 1;
      } else {
        this.server.commands.push(command);
        queueMicrotask(() => this.listener && this.#handle(command));
      }
    }
  }

  close(): void {
    this.listener = undefined;
    this.server.left(this);
  }

  end(code: number, reason: string): void {
    const { listener } = this;
    this.close();
    queueMicrotask(() => listener?.closed(code, reason));
  }

  /** What is queued here before an end is still received. */
  reply(reply: Reply): void {
    const { listener } = this;
    const frame = JSON.stringify(reply);
    queueMicrotask(() => listener?.received(frame));
  }

  #handle(command: Command): void {
    const { id } = command;
    try {
      const { after, ...result } = this.#answer(command);
      if (id) {
        this.reply({ id, ...result });
      }
      after?.();
    } catch (error) {
      const { code, message, temporary } = error instanceof BobolinkError ? error : new BobolinkError(100, String(error), true);
      if (code >= 3000) {
        this.end(code, message);
      } else {
        this.reply({ id, error: { code, message, temporary } });
      }
    }
  }

  #answer(command: Command): Partial<Results> & { after?: () => void } {
    const { server, info } = this;
    const { connect, subscribe, unsubscribe, publish, presence, presence_stats, history, rpc, send } = command;
    if (connect) {
      const { token = '' } = connect;
      this.info = { ...info, user: server.options.authenticate?.(token) ?? token };
      const { ping } = server.options;
      const ttl = this.info.user ? server.idempotencyTtl : 0;
      return {
        connect: {
          client: info.client,
          version: 'fake',
          publish_idempotency_ttl: ttl || undefined,
          ...(ping ? { ping, pong: true } : {}),
        },
      };
    }
    if (subscribe) {
      return { subscribe: this.#subscribe(subscribe), after: () => server.moved(subscribe.channel, this, 'join') };
    }
    if (unsubscribe) {
      const { channel } = unsubscribe;
      const was = this.subscriptions.delete(channel);
      return { unsubscribe: {}, after: () => was && server.moved(channel, this, 'leave') };
    }
    if (publish) {
      // Before the reply, as by a server that has done it when it says so.
      if (!server.isRepeat(info.user, publish.channel, publish.idempotency_key)) {
        server.publish(publish.channel, publish.data, { info });
      }
      return { publish: {} };
    }
    if (history) {
      return { history: this.#history(history) };
    }
    if (presence) {
      return { presence: { presence: server.present(presence.channel) } };
    }
    if (presence_stats) {
      const present = Object.values(server.present(presence_stats.channel));
      const users = new Set(present.map(({ user }) => user));
      return { presence_stats: { num_clients: present.length, num_users: users.size } };
    }
    if (rpc && server.options.rpc) {
      return { rpc: { data: server.options.rpc(rpc.method ?? '', rpc.data, info.user) } };
    }
    if (send) {
      return {};
    }
    throw new BobolinkError(108, 'not available');
  }

  #subscribe(request: SubscribeRequest): SubscribeResult {
    const { channel, recover, epoch, offset = 0, flag = 0 } = request;
    if (this.subscriptions.has(channel)) {
      throw new BobolinkError(105, 'already subscribed');
    }
    this.server.options.authorize?.(channel, request, this.info.user);
    const stream = this.server.channel(channel);
    const missed = stream.publications.filter((publication) => (publication.offset ?? 0) > offset);
    const recovered = recover === true && epoch === stream.epoch && missed.length === stream.offset - offset;
    if (recover && !recovered && flag & 2) {
      throw new BobolinkError(112, 'unrecoverable position');
    }
    this.subscriptions.set(channel, request);
    return {
      recoverable: true,
      positioned: true,
      epoch: stream.epoch,
      offset: recovered ? offset : stream.offset,
      was_recovering: recover,
      recovered,
      publications: recovered ? missed : undefined,
      id: flag & 1 ? stream.id : undefined,
    };
  }

  #history({ channel, limit = 0, since, reverse }: NonNullable<Command['history']>): Results['history'] {
    const { publications, offset, epoch } = this.server.channel(channel);
    if (since?.epoch && since.epoch !== epoch) {
      throw new BobolinkError(112, 'unrecoverable position');
    }
    const ordered = reverse ? [...publications].reverse() : publications;
    const from = ordered.filter(({ offset = 0 }) => !since || (reverse ? offset < since.offset : offset > since.offset));
    return { publications: limit < 0 ? from : from.slice(0, limit), offset, epoch };
  }
}
