/** A subscription to one channel: does what its machine says. */

import { Reason } from './codes.js';
import { gather } from './credentials.js';
import { Emitter, emitState, type Undo } from './emitter.js';
import type { Environment } from './environment.js';
import { BobolinkError, ErrorCode } from './errors.js';
import type { LogEntry } from './log.js';
import { newMembership, stepSubscription } from './machines/subscription.js';
import type {
  Membership,
  SubscriptionEffect,
  SubscriptionEvent,
  SubscriptionState,
  SubscriptionTimer,
} from './machines/subscription.js';
import type { Mailbox } from './mailbox.js';
import type { HistoryOptions, PublishOptions, SubscriptionOptions } from './options.js';
import { clientInfo, historyOf, parsed, presenceOf, presenceStatsOf, publication } from './publication.js';
import type { ClientInfo, DeltaDecoder, History, PresenceStats, Publication } from './publication.js';
import { Readiness } from './readiness.js';
import type { Requests } from './requests.js';
import { PublicationStream, type StreamOptions } from './stream.js';
import { Timers } from './timers.js';
import { SubscribeFlag } from './wire.js';
import type {
  Push,
  Requests as RequestOf,
  Results,
  StreamPosition,
  SubscribeRequest,
  SubscribeResult,
  TagsFilter,
  WirePublication,
} from './wire.js';

export type StateEvents<State extends { name: string }> = {
  [Name in State['name']]: Extract<State, { name: Name }>;
} & {
  /** Every change of state, before the event with the state's own name. */
  state: State;
};

export interface SubscriptionEvents<T> extends StateEvents<SubscriptionState> {
  publication: Publication<T>;
  join: ClientInfo;
  leave: ClientInfo;
  /** Something failed. Unless the state changes too, it is tried again. */
  error: BobolinkError;
  /** The client is disconnected for good, and why. The subscription goes on if it is connected again. */
  stranded: BobolinkError;
}

/** What a client needs of a subscription, whatever its publications hold. */
export interface Member {
  dispatch(event: SubscriptionEvent): void;
  push(push: Push): void;
  strand(error: BobolinkError): void;
}

/** What a subscription needs of its client. */
export interface Link {
  environment: Environment;
  mailbox: Mailbox;
  requests: Requests;
  /** Who is meant by the number of a push. */
  numbers: Map<number, Member>;
  /** Tells the application's log. */
  log(kind: LogEntry['kind'], what: () => object, channel?: string): void;
  reconnect(why: { code: number; reason: string }): void;
  forget(channel: string): void;
  /** Why the client is disconnected for good, if it is. */
  failure(): BobolinkError | undefined;
}

export class Subscription<T = unknown> implements AsyncIterable<Publication<T>>, Member {
  readonly #link: Link;
  readonly #options: SubscriptionOptions<T>;
  readonly #events = new Emitter<SubscriptionEvents<T>>();
  readonly #timers: Timers<SubscriptionTimer>;
  readonly #readiness: Readiness;
  #membership: Membership;
  #data: unknown;
  #filter: TagsFilter | undefined;
  #decode: DeltaDecoder | undefined;
  #number: number | undefined;
  /** The application wants no more, even while the machine is still busy with what came before. */
  #muted = true;

  /** Made by `Client.subscription`. */
  constructor(
    readonly channel: string,
    link: Link,
    options: SubscriptionOptions<T>,
  ) {
    const { token = '', getToken, getState, since, minResubscribeDelay = 500, maxResubscribeDelay = 20_000 } = options;
    this.#link = link;
    this.#options = options;
    this.#filter = options.tagsFilter;
    this.#timers = new Timers(link.environment, (name) => this.dispatch({ type: 'timer', name }));
    this.#readiness = new Readiness(link.environment.clock);
    const settings = { renewable: !!getToken, loadsState: !!getState, minResubscribeDelay, maxResubscribeDelay };
    this.#membership = newMembership(settings, token, since);
  }

  /** The same object until it changes. */
  get state(): SubscriptionState {
    return this.#membership.state;
  }

  /** The last place in the stream that was seen, if the channel has one. */
  get position(): StreamPosition | undefined {
    return this.#membership.position;
  }

  /** Listens until the returned function is called or the subscription is closed. */
  on<Name extends keyof SubscriptionEvents<T>>(
    name: Name,
    listener: (event: SubscriptionEvents<T>[Name]) => void,
  ): Undo {
    return this.#events.on(name, listener);
  }

  subscribe(): this {
    this.#muted = false;
    this.dispatch({ type: 'subscribe' });
    return this;
  }

  /** Ends the subscription; it can be subscribed again and then recovers. */
  unsubscribe(): void {
    this.#muted = true;
    this.dispatch({ type: 'unsubscribe' });
  }

  /** Ends the subscription for good and lets the client forget it. */
  close(): void {
    this.#muted = true;
    this.dispatch({ type: 'close' });
  }

  /**
   * Resolves when subscribed, at once if it is; rejects if that is not to be expected: when the subscription
   * has ended, or the client for good. A client that was disconnected by `disconnect()` is waited for.
   */
  ready(timeout?: number): Promise<void> {
    const { state } = this;
    const failure = this.#link.failure();
    switch (state.name) {
      case 'subscribed':
        return Promise.resolve();
      case 'subscribing':
        return failure ? Promise.reject(failure) : this.#readiness.wait(timeout);
      default:
        return Promise.reject(endOf(state));
    }
  }

  /** Publications for `for await`. Subscribes if that has not been done. */
  publications(options: StreamOptions = {}): AsyncIterableIterator<Publication<T>> {
    const stream = new PublicationStream(this, options, this.#link.failure());
    this.subscribe();
    return stream;
  }

  [Symbol.asyncIterator](): AsyncIterator<Publication<T>> {
    return this.publications();
  }

  async publish(data: T, { idempotencyKey }: PublishOptions = {}): Promise<void> {
    await this.#request('publish', { data, idempotency_key: idempotencyKey });
  }

  async history(options: HistoryOptions = {}): Promise<History<T>> {
    const result = await this.#request('history', options);
    return historyOf(result, (wire) => this.#read(wire, this.#link.requests.codec.payload(wire.data)));
  }

  /** Who is in the channel, by connection. */
  async presence(): Promise<Record<string, ClientInfo>> {
    return presenceOf(await this.#request('presence', {}));
  }

  async presenceStats(): Promise<PresenceStats> {
    return presenceStatsOf(await this.#request('presence_stats', {}));
  }

  /** Holds from the next time it subscribes. */
  setTagsFilter(filter: TagsFilter | undefined): void {
    this.#filter = filter;
  }

  setToken(token: string): void {
    this.dispatch({ type: 'token', token });
  }

  /** @internal What its client tells it. */
  dispatch(event: SubscriptionEvent): void {
    this.#link.mailbox.post(() => {
      const [next, effects] = stepSubscription(this.#membership, event);
      this.#membership = next;
      effects.forEach((effect) => this.#run(effect));
    });
  }

  /** @internal Nothing is to be expected of its client for now. */
  strand(error: BobolinkError): void {
    this.#readiness.settle(error);
    this.#events.emit('stranded', error);
  }

  /** @internal A push for this channel. */
  push({ pub, join, leave, unsubscribe }: Push): void {
    if (unsubscribe) {
      const { code = 0, reason = '' } = unsubscribe;
      this.dispatch({ type: 'ended', code, reason });
    } else if (this.state.name === 'subscribed' && !this.#muted) {
      if (pub) {
        this.#deliver([pub]);
      } else if (join) {
        this.#events.emit('join', clientInfo(join.info));
      } else if (leave) {
        this.#events.emit('leave', clientInfo(leave.info));
      }
    }
  }

  #run(effect: SubscriptionEffect): void {
    const { channel } = this;
    const { requests } = this.#link;
    switch (effect.do) {
      case 'report':
        return this.#report(effect.state);
      case 'prepare':
        return this.#prepare(effect.round, effect.token, effect.state);
      case 'subscribe':
        return requests.call('subscribe', this.#wish(), (outcome) => this.#answered(effect.round, outcome), true);
      case 'unsubscribe':
        return requests.call('unsubscribe', { channel }, (outcome) => this.#left(outcome), true);
      case 'refresh':
        return this.#refresh();
      case 'accept':
        return this.#accept(effect.result);
      case 'deliver':
        return this.#deliver(effect.publications);
      case 'timer':
        return this.#timers.set(effect.name, effect.delay);
      case 'stop':
        return this.#timers.clear(effect.timer);
      case 'reconnect':
        return this.#link.reconnect(effect);
      case 'error':
        return this.#fail(effect.error);
    }
  }

  #report(state: SubscriptionState): void {
    if (state.name !== 'subscribed' && this.#number !== undefined) {
      this.#link.numbers.delete(this.#number);
      this.#number = undefined;
    }
    this.#link.log('state', () => ({ ...state, data: undefined }), this.channel);
    emitState(this.#events, state);
    if (state.name !== 'subscribing') {
      this.#readiness.settle(state.name === 'subscribed' ? undefined : endOf(state));
    }
    if (state.name === 'closed') {
      this.#events.clear();
      this.#link.forget(this.channel);
    }
  }

  #prepare(round: number, askToken: boolean, state: boolean): void {
    const token = askToken ? undefined : this.#membership.token;
    gather(this.#options, { token, state, channel: this.channel }, ErrorCode.subscriptionCredentials, (gathered) => {
      if (gathered instanceof BobolinkError) {
        this.dispatch({ type: 'failed', round, error: gathered });
      } else if (round === this.#membership.round) {
        // A slow answer to an earlier attempt must not take the place of this one's.
        this.#data = gathered.data;
        this.dispatch({ type: 'prepared', round, ...gathered });
      }
    });
  }

  /** The subscribe command for what is known now. */
  #wish(): SubscribeRequest {
    const { positioned, recoverable, joinLeave, delta, getState } = this.#options;
    const { token, position, recoverable: recover } = this.#membership;
    return {
      channel: this.channel,
      token: token || undefined,
      data: this.#data,
      positioned,
      recoverable,
      join_leave: joinLeave,
      delta: delta?.name,
      tf: this.#filter,
      flag: SubscribeFlag.compaction | (getState ? SubscribeFlag.rejectUnrecovered : 0),
      ...(position && recover ? { recover, ...position } : undefined),
    };
  }

  #answered(round: number, outcome: SubscribeResult | BobolinkError): void {
    this.dispatch(
      outcome instanceof BobolinkError
        ? { type: 'failed', round, error: outcome }
        : { type: 'replied', round, result: outcome },
    );
  }

  #left(outcome: object): void {
    if (outcome instanceof BobolinkError && outcome.code !== ErrorCode.connectionLost) {
      this.#link.reconnect(Reason.unsubscribeError);
    }
  }

  #refresh(): void {
    const { round, token } = this.#membership;
    this.#link.requests.call('sub_refresh', { channel: this.channel, token }, (outcome) =>
      this.dispatch(
        outcome instanceof BobolinkError
          ? { type: 'failed', round, error: outcome }
          : { type: 'refreshed', expiry: outcome },
      ),
    );
  }

  #accept({ id, delta }: SubscribeResult): void {
    if (id) {
      this.#number = id;
      this.#link.numbers.set(id, this);
    }
    // After a recovery patches go on from what was there before; otherwise the first one comes whole.
    this.#decode = delta ? (this.#decode ?? this.#options.delta?.decoder()) : undefined;
  }

  #deliver(wires: WirePublication[]): void {
    for (const wire of wires) {
      if (this.#muted) {
        return;
      }
      let data: unknown;
      try {
        data = this.#link.requests.codec.payload(wire.data, wire.delta, this.#decode);
      } catch (cause) {
        const error = new BobolinkError(ErrorCode.badPatch, 'a patch does not fit', true, { cause });
        this.dispatch({ type: 'damaged', error });
        return;
      }
      if (wire.offset) {
        this.dispatch({ type: 'advanced', offset: wire.offset });
      }
      const publication = this.#read(wire, data);
      if (publication) {
        this.#events.emit('publication', publication);
      }
    }
  }

  #read(wire: WirePublication, data: unknown): Publication<T> | undefined {
    try {
      return publication(this.channel, wire, parsed(this.#options.schema, data));
    } catch (error) {
      this.#fail(error as BobolinkError);
      return undefined;
    }
  }

  async #request<V extends 'publish' | 'history' | 'presence' | 'presence_stats'>(
    verb: V,
    request: Omit<RequestOf[V], 'channel'>,
  ): Promise<Results[V]> {
    const { requests } = this.#link;
    await this.ready(requests.timeout);
    return requests.request(verb, { channel: this.channel, ...request } as RequestOf[V]);
  }

  #fail(error: BobolinkError): void {
    this.#link.log('error', () => ({ code: error.code, message: error.message }), this.channel);
    this.#events.emit('error', error);
  }
}

/** Why nothing more is to be expected in this state. */
function endOf(state: SubscriptionState): BobolinkError {
  if (state.name === 'unsubscribed') {
    return state.error ?? new BobolinkError(ErrorCode.unsubscribed, 'unsubscribed');
  }
  return new BobolinkError(ErrorCode.closed, 'closed');
}
