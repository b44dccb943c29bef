/** A connection to the server: does what its machine says, and hands on what comes in. */

import { json, type Codec, type Frame } from './codec.js';
import { Reason } from './codes.js';
import { gather } from './credentials.js';
import { Emitter, emitState, guarded, type Undo } from './emitter.js';
import { environmentOf } from './environment.js';
import { BobolinkError, ErrorCode } from './errors.js';
import { redacted } from './log.js';
import { newConnection, settingsOf, stepConnection } from './machines/connection.js';
import type {
  ClientState,
  Connection,
  ConnectionEffect,
  ConnectionEvent,
  ConnectionTimer,
} from './machines/connection.js';
import type { SubscriptionEvent } from './machines/subscription.js';
import { Mailbox } from './mailbox.js';
import type { ClientOptions, HistoryOptions, PublishOptions, SubscriptionOptions } from './options.js';
import { clientInfo, historyOf, presenceOf, presenceStatsOf, publication } from './publication.js';
import type { ClientInfo, History, PresenceStats } from './publication.js';
import { Readiness } from './readiness.js';
import { Requests } from './requests.js';
import { ServerSide, type ServerSideEvents } from './server_side.js';
import { Subscription, type Link, type Member, type StateEvents } from './subscription.js';
import { Timers } from './timers.js';
import type { Socket } from './transport.js';
import type { Command, Push, Reply, Requests as RequestOf, Results, Verb } from './wire.js';

export interface ClientEvents extends StateEvents<ClientState>, ServerSideEvents {
  /** Something failed. Unless the state changes too, it is tried again. */
  error: BobolinkError;
  /** A message of the server to this connection alone. */
  message: unknown;
}

/** What a socket that was never opened closes with. */
const NOT_OPENED = 1006;

/**
 * `Channels` says which data channels carry, by name or pattern:
 * `Client<{ news: News; [room: \`chat:${string}\`]: Message }>`.
 */
export class Client<Channels extends object = Record<string, unknown>> {
  readonly #options: ClientOptions;
  readonly #events = new Emitter<ClientEvents>();
  readonly #codec: Codec;
  readonly #serverSide: ServerSide;
  readonly #subscriptions = new Map<string, Member>();
  readonly #link: Link;
  readonly #timers: Timers<ConnectionTimer>;
  readonly #readiness: Readiness;
  #connection: Connection;
  #socket: Socket | undefined;
  /** Whether commands of subscriptions have somewhere to go. */
  #linked = false;
  #answersPings = false;
  #heardAt = 0;
  #connectData: unknown;
  #stopListening: Undo;

  constructor(
    readonly endpoint: string,
    options: ClientOptions = {},
  ) {
    const { codec = json } = options;
    const settings = settingsOf(options);
    const environment = environmentOf(options, codec);
    const { clock } = environment;
    this.#options = options;
    this.#codec = codec;
    this.#serverSide = new ServerSide(this.#events, codec);
    this.#timers = new Timers(environment, (name) => this.#dispatch({ type: 'timer', name, idle: this.#idle() }));
    this.#readiness = new Readiness(clock);
    this.#link = {
      environment,
      mailbox: new Mailbox((cause) => this.#garbled(cause)),
      requests: new Requests(clock, settings.timeout, codec, (frame, commands) => this.#write(frame, commands)),
      numbers: new Map(),
      log(kind, what, channel) {
        if (options.log) {
          guarded(() => options.log?.({ at: clock.now(), kind, channel, text: redacted(what()) }));
        }
      },
      reconnect: ({ code, reason }) => this.#dispatch({ type: 'restart', code, reason }),
      forget: (channel) => this.#subscriptions.delete(channel),
      failure: () => (this.state as { error?: BobolinkError }).error,
    };
    this.#connection = newConnection(settings, options.token ?? '');
    this.#stopListening = environment.network((type) =>
      this.#dispatch(type === 'visible' ? { type, idle: this.#idle() } : { type }),
    );
  }

  /** The same object until it changes. */
  get state(): ClientState {
    return this.#connection.state;
  }

  /** Listens until the returned function is called or the client is closed. */
  on<Name extends keyof ClientEvents>(name: Name, listener: (event: ClientEvents[Name]) => void): Undo {
    return this.#events.on(name, listener);
  }

  connect(): this {
    this.#dispatch({ type: 'connect' });
    return this;
  }

  /** Ends the connection. Subscriptions stay and recover when it is connected again. */
  disconnect(): void {
    this.#dispatch({ type: 'disconnect' });
  }

  /** Ends everything for good: no timer, listener or promise is left. */
  close(): void {
    this.#dispatch({ type: 'close' });
  }

  /** Resolves when connected, at once if it is; rejects if that is not to be expected. */
  ready(timeout?: number): Promise<void> {
    const { state } = this;
    switch (state.name) {
      case 'connected':
        return Promise.resolve();
      case 'connecting':
        return this.#readiness.wait(timeout);
      default:
        return Promise.reject(endOf(state));
    }
  }

  /**
   * The subscription to a channel, not subscribed yet if it is new. There is one per channel; options
   * can be given to a new one only.
   */
  subscription<Channel extends keyof Channels & string, T extends Channels[Channel] = Channels[Channel]>(
    channel: Channel,
    options?: SubscriptionOptions<T>,
  ): Subscription<T> {
    const known = this.#subscriptions.get(channel);
    if (known && options) {
      throw new TypeError(`"${channel}" has its options already`);
    }
    if (this.state.name === 'closed') {
      throw endOf(this.state);
    }
    if (known) {
      // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment -- only these are put there
      return known as Subscription<T>;
    }
    const subscription = new Subscription<T>(channel, this.#link, options ?? {});
    this.#subscriptions.set(channel, subscription);
    if (this.#linked) {
      subscription.dispatch({ type: 'linked' });
    }
    return subscription;
  }

  /** The subscription to a channel, if there is one. */
  find<Channel extends keyof Channels & string>(channel: Channel): Subscription<Channels[Channel]> | undefined {
    return this.#subscriptions.get(channel) as Subscription<Channels[Channel]> | undefined;
  }

  /** Publishes to a channel that needs no subscription for it. */
  async publish<Channel extends keyof Channels & string>(
    channel: Channel,
    data: Channels[Channel],
    options: PublishOptions = {},
  ): Promise<void> {
    await this.#request('publish', { channel, data, idempotency_key: options.idempotencyKey });
  }

  async history<Channel extends keyof Channels & string>(
    channel: Channel,
    options: HistoryOptions = {},
  ): Promise<History<Channels[Channel]>> {
    const result = await this.#request('history', { channel, ...options });
    return historyOf(result, (wire) => publication(channel, wire, this.#codec.payload(wire.data) as Channels[Channel]));
  }

  /** Who is in a channel, by connection. */
  async presence(channel: keyof Channels & string): Promise<Record<string, ClientInfo>> {
    return presenceOf(await this.#request('presence', { channel }));
  }

  async presenceStats(channel: keyof Channels & string): Promise<PresenceStats> {
    return presenceStatsOf(await this.#request('presence_stats', { channel }));
  }

  /** Calls a method of the application's backend. */
  async rpc(method: string, data?: unknown): Promise<unknown> {
    return (await this.#request('rpc', { method, data })).data;
  }

  /** Sends a message to the application's backend, without an answer. */
  async send(data: unknown): Promise<void> {
    this.#mustBeActive();
    await this.#link.requests.send(data);
  }

  /** Ends a subscription that the server made; where a token makes it, it is back with the next connection. */
  async unsubscribe(channel: keyof Channels & string): Promise<void> {
    await this.#request('unsubscribe', { channel });
    this.#serverSide.unsubscribed(channel, Reason.called);
  }

  /** The token to use from the next attempt to connect on. */
  setToken(token: string): void {
    this.#dispatch({ type: 'token', token });
  }

  #dispatch(event: ConnectionEvent): void {
    this.#link.mailbox.post(() => {
      const [next, effects] = stepConnection(this.#connection, event);
      this.#connection = next;
      effects.forEach((effect) => this.#run(effect));
    });
  }

  #run(effect: ConnectionEffect): void {
    switch (effect.do) {
      case 'report':
        return this.#report(effect.state);
      case 'prepare':
        return this.#prepare(effect.round, effect.token);
      case 'open':
        return this.#open();
      case 'greet':
        return this.#greet();
      case 'hangUp':
        return this.#hangUp();
      case 'refresh':
        return this.#refresh();
      case 'invalidate':
        this.#serverSide.invalidate();
        return this.#tellAll({ type: 'invalidated' });
      case 'timer':
        return this.#timers.set(effect.name, effect.delay);
      case 'stop':
        return this.#timers.clear(effect.timer);
      case 'error':
        return this.#fail(effect.error);
    }
  }

  #report(state: ClientState): void {
    const { requests } = this.#link;
    if (state.name === 'connected') {
      requests.open('open');
    } else if (state.name !== 'connecting') {
      requests.failAll(endOf(state));
    }
    this.#link.log('state', () => ({ ...state, data: undefined }));
    emitState(this.#events, state);
    if (state.name !== 'connecting') {
      this.#readiness.settle(state.name === 'connected' ? undefined : endOf(state));
    }
    if (state.name === 'disconnected' && state.error) {
      const { error } = state;
      this.#subscriptions.forEach((subscription) => subscription.strand(error));
    }
    if (state.name === 'closed') {
      this.#tellAll({ type: 'close' });
      this.#stopListening();
      this.#events.clear();
    }
  }

  #prepare(round: number, askToken: boolean): void {
    const token = askToken ? undefined : this.#connection.token;
    gather(this.#options, { token }, ErrorCode.credentials, (gathered) => {
      if (gathered instanceof BobolinkError) {
        this.#dispatch({ type: 'failed', round, error: gathered });
      } else if (round === this.#connection.round) {
        // A slow answer to an earlier attempt must not take the place of this one's.
        this.#connectData = gathered.data;
        this.#dispatch({ type: 'credentials', round, token: gathered.token });
      }
    });
  }

  #open(): void {
    try {
      this.#socket = this.#link.environment.transport(this.endpoint, {
        opened: () => this.#dispatch({ type: 'opened' }),
        received: (frame) => this.#link.mailbox.post(() => this.#received(frame)),
        closed: (code, reason) => this.#dispatch({ type: 'lost', code, reason }),
      });
    } catch (cause) {
      const error = new BobolinkError(ErrorCode.connectionLost, 'the connection cannot be opened', true, { cause });
      this.#dispatch({ type: 'failed', round: this.#connection.round, error });
    }
  }

  /** Connects and subscribes in one go: the server answers in order. */
  #greet(): void {
    const { requests } = this.#link;
    const { name, version, headers } = this.#options;
    const token = this.#connection.token || undefined;
    const request = { token, data: this.#connectData, name, version, headers, subs: this.#serverSide.wishes };
    const { round } = this.#connection;
    this.#linked = true;
    requests.open('early');
    requests.call('connect', request, (outcome) => this.#answered(round, outcome), true);
    this.#tellAll({ type: 'linked' });
  }

  #answered(round: number, outcome: Results['connect'] | BobolinkError): void {
    if (outcome instanceof BobolinkError) {
      this.#dispatch({ type: 'failed', round, error: outcome });
      return;
    }
    this.#answersPings = outcome.pong === true;
    this.#dispatch({ type: 'welcomed', result: outcome });
    this.#link.mailbox.post(() => this.#serverSide.welcomed(outcome.subs ?? {}));
  }

  #hangUp(): void {
    this.#socket?.close();
    this.#socket = undefined;
    if (this.#linked) {
      this.#linked = false;
      this.#tellAll({ type: 'unlinked' });
      this.#link.requests.shut();
      this.#serverSide.lost();
    }
  }

  #refresh(): void {
    const { round, token } = this.#connection;
    this.#link.requests.call('refresh', { token }, (outcome) =>
      this.#dispatch(
        outcome instanceof BobolinkError
          ? { type: 'failed', round, error: outcome }
          : { type: 'refreshed', expiry: outcome },
      ),
    );
  }

  #write(frame: Frame, commands: Command[]): void {
    commands.forEach((command) => this.#link.log('sent', () => command));
    try {
      this.#socket?.send(frame);
    } catch {
      this.#dispatch({ type: 'lost', code: NOT_OPENED, reason: '' });
    }
  }

  #received(frame: Frame): void {
    this.#heardAt = this.#link.environment.clock.now();
    const socket = this.#socket;
    for (const reply of this.#codec.decode(frame)) {
      // What a reply causes may end the connection: nothing behind it counts then.
      this.#link.mailbox.receive(() => socket === this.#socket && this.#read(reply));
    }
  }

  #read(reply: Reply): void {
    if (reply.id) {
      this.#link.log('received', () => reply);
      this.#link.requests.settle(reply);
    } else if (reply.push) {
      this.#link.log('received', () => reply);
      this.#push(reply.push);
    } else if (this.#answersPings) {
      this.#write(this.#codec.encode({}), []);
    }
  }

  /** Callbacks of the application are guarded, so that what fails here is what the server sent. */
  #garbled(cause: unknown): void {
    const error = new BobolinkError(ErrorCode.badProtocol, 'bad protocol', false, { cause });
    this.#dispatch({ type: 'garbled', error });
  }

  #push(push: Push): void {
    const { channel = '', id, pub, join, leave, subscribe, unsubscribe, message, refresh, disconnect } = push;
    const target = id ? this.#link.numbers.get(id) : this.#subscriptions.get(channel);
    if (target) {
      target.push(push);
    } else if (pub) {
      this.#serverSide.published(channel, pub);
    } else if (join) {
      this.#events.emit('join', { channel, info: clientInfo(join.info) });
    } else if (leave) {
      this.#events.emit('leave', { channel, info: clientInfo(leave.info) });
    } else if (subscribe) {
      this.#serverSide.subscribed(channel, subscribe);
    } else if (unsubscribe) {
      this.#serverSide.unsubscribed(channel, unsubscribe);
    } else if (message) {
      this.#events.emit('message', message.data);
    } else if (refresh) {
      this.#dispatch({ type: 'refreshed', expiry: refresh });
    } else if (disconnect) {
      this.#dispatch({ type: 'lost', code: disconnect.code ?? 0, reason: disconnect.reason ?? '' });
    }
  }

  #tellAll(event: SubscriptionEvent): void {
    [...this.#subscriptions.values()].forEach((subscription) => subscription.dispatch(event));
  }

  async #request<V extends Verb>(verb: V, request: RequestOf[V]): Promise<Results[V]> {
    this.#mustBeActive();
    return this.#link.requests.request(verb, request);
  }

  #mustBeActive(): void {
    const { state } = this;
    if (state.name === 'disconnected' || state.name === 'closed') {
      throw endOf(state);
    }
  }

  /** Milliseconds since anything was heard. */
  #idle(): number {
    return this.#link.environment.clock.now() - this.#heardAt;
  }

  #fail(error: BobolinkError): void {
    this.#link.log('error', () => ({ code: error.code, message: error.message }));
    this.#events.emit('error', error);
  }
}

/** Why nothing more is to be expected in this state. */
function endOf(state: ClientState): BobolinkError {
  if (state.name === 'disconnected') {
    return state.error ?? new BobolinkError(ErrorCode.disconnected, `disconnected: ${state.reason}`);
  }
  return new BobolinkError(ErrorCode.closed, 'closed');
}
