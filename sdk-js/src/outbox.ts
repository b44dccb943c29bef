/**
 * Messages that wait for the network: kept before anything else, sent in order per channel, each once.
 *
 * Every message has an idempotency key, which goes with every attempt. One message of a channel is on
 * its way at a time, since a failure of the first must not let the second overtake it. Of several tabs
 * with the same name one sends.
 */

import type { Client } from './client.js';
import { Reason } from './codes.js';
import { Emitter, type Undo } from './emitter.js';
import { systemClock, type Clock } from './environment.js';
import { BobolinkError, ErrorCode } from './errors.js';
import { indexedDBStore, type OutboxStore, type StoredMessage } from './outbox/store.js';
import { pageMeans, Tab, type TabMeans } from './tab.js';
import { backoff, Timers } from './timers.js';

export { indexedDBStore, memoryStore, type OutboxStore, type StoredMessage } from './outbox/store.js';
export type { ChannelLike, LocksLike, TabMeans } from './tab.js';

/**
 * What can be promised. Past the time for which the server remembers keys, for anonymous users and
 * with servers that know no keys, a message whose answer got lost may be published twice. A server that
 * lost the key, as one that keeps it in memory does when it is restarted, cannot be told from here: README.md
 * has the list.
 */
export type Delivery = 'exactly once' | 'at least once';

export interface OutboxMessage<T = unknown> {
  readonly id: string;
  readonly channel: string;
  readonly data: T;
  /** Unix milliseconds at which the application sent it. */
  readonly at: number;
  readonly state: 'queued' | 'sent' | 'failed';
  /** Why it failed, which trying again as it is will not change. */
  readonly error?: { readonly code: number; readonly message: string };
  /** With `sent`: what can be said of this message. */
  readonly delivery?: Delivery;
}

export interface OutboxEvents {
  /** A message is in a new state, whichever tab it was sent from. */
  message: OutboxMessage;
  /** Something failed that is tried again. */
  error: BobolinkError;
}

export interface OutboxOptions {
  /**
   * Tabs with the same name share the outbox. Put the user into it: what one user wrote must not be
   * sent as the next one. 'bobolink-outbox' by default.
   */
  name?: string;
  /** IndexedDB under this name where there is one; otherwise to be given, such as `memoryStore()`. */
  store?: OutboxStore;
  /** How many messages may wait or have failed, 1000; `send` rejects beyond. */
  limit?: number;
  /** Bytes of a message as JSON, 60000: above 64 KiB servers close the connection by default. */
  maxSize?: number;
  /** Bound of the first random delay after a temporary failure, 500 ms; it doubles with each. */
  minRetryDelay?: number;
  /** 20000 ms. */
  maxRetryDelay?: number;
  /** How tabs find each other; by default Web Locks and BroadcastChannel. */
  tabs?: TabMeans;
  clock?: Clock;
  random?: () => number;
}

/** What tabs tell each other: a message as it is kept now, or that it is no longer kept. */
type News = { stored: StoredMessage } | { gone: StoredMessage; delivery?: Delivery };

interface Line {
  /** Failed attempts of its first message. */
  attempt: number;
  busy: boolean;
}

/** How many numbers of messages that went are remembered. */
const LEFT = 1_000;

export class Outbox<Channels extends object = Record<string, unknown>> {
  readonly #events = new Emitter<OutboxEvents>();
  readonly #client: Client<Channels>;
  readonly #options: OutboxOptions;
  readonly #store: OutboxStore;
  readonly #tab: Tab<News>;
  readonly #timers: Timers<string>;
  readonly #lines = new Map<string, Line>();
  readonly #undo: Undo[];
  #messages: StoredMessage[] = [];
  /** Messages that are on their way into the store. */
  #adding = 0;
  #closed = false;
  #loaded: Promise<void> = Promise.resolve();
  /** Reads of the store that are not done: until then nothing may overtake what is in it. */
  #loading = 0;
  /** Numbers of the last messages that went: what was read or told before must not bring them back. */
  readonly #left = new Set<number>();
  /** Bytes of what is on its way, by id. */
  readonly #flying = new Map<string, number>();
  /** The message over which the server closed the connection: the largest of those on their way. */
  #tooBig: string | undefined;

  constructor(client: Client<Channels>, options: OutboxOptions = {}) {
    const { name = 'bobolink-outbox', clock = systemClock, random = Math.random } = options;
    this.#client = client;
    this.#options = options;
    this.#store = options.store ?? indexedDBStore(name);
    this.#timers = new Timers({ clock, random }, (channel) => this.#pump(channel));
    this.#load();
    this.#tab = new Tab(`${name}:outbox`, options.tabs ?? pageMeans(), {
      // What the tab before did last is in the store.
      leads: () => this.#load(),
      heard: (news) => this.#heard(news),
    });
    this.#undo = [
      client.on('connected', () => this.#pumpAll()),
      client.on('disconnected', ({ reason }) => {
        if (reason === Reason.messageTooBig.reason) {
          this.#tooBig = [...this.#flying].sort(([, a], [, b]) => b - a)[0]?.[0];
        }
      }),
      client.on('closed', () => this.close()),
    ];
  }

  /** Messages that wait or have failed, in the order in which they were sent. */
  get messages(): readonly OutboxMessage[] {
    return this.#messages.map((stored) => shown(stored));
  }

  /** What the connected server promises; unknown without a connection. */
  get delivery(): Delivery | undefined {
    const { state } = this.#client;
    return state.name === 'connected' ? (state.idempotencyTtl ? 'exactly once' : 'at least once') : undefined;
  }

  on<Name extends keyof OutboxEvents>(name: Name, listener: (event: OutboxEvents[Name]) => void): Undo {
    return this.#events.on(name, listener);
  }

  /** Resolves when what was kept before is known. */
  ready(): Promise<void> {
    return this.#loaded;
  }

  /** Resolves when the message is kept: from then on it survives what happens. */
  async send<Channel extends keyof Channels & string>(
    channel: Channel,
    data: Channels[Channel],
  ): Promise<OutboxMessage<Channels[Channel]>> {
    const { limit = 1000, maxSize = 60_000 } = this.#options;
    this.#mustBeOpen();
    if (sizeOf(data) > maxSize) {
      throw new BobolinkError(ErrorCode.badData, `more than ${maxSize} bytes`);
    }
    if (this.#messages.length + this.#adding >= limit) {
      throw new BobolinkError(ErrorCode.bufferFull, `more than ${limit} wait`, true);
    }
    this.#adding += 1;
    try {
      const message = { id: newId(), channel, data, at: Date.now() };
      const stored = { ...message, seq: await this.#keep((store) => store.add(message)) };
      this.#changed(stored);
      return shown(stored);
    } finally {
      this.#adding -= 1;
    }
  }

  /** Lets a failed message wait again, in its old place. */
  async retry(id: string): Promise<void> {
    const stored = this.#find(id);
    if (stored) {
      const fresh = { ...stored, error: undefined };
      await this.#keep((store) => store.put(fresh));
      this.#changed(fresh);
    }
  }

  /** Gives a message up. If it is on its way, it may still arrive. */
  async remove(id: string): Promise<void> {
    const gone = this.#find(id);
    if (gone) {
      // Before it is out of the store: what comes of an attempt meanwhile must not put it back.
      this.#left.add(gone.seq);
      try {
        await this.#keep((store) => store.remove(gone.seq));
      } catch (error) {
        this.#left.delete(gone.seq);
        this.#pump(gone.channel);
        throw error;
      }
      this.#gone({ gone });
      this.#tab.tell({ gone });
    }
  }

  /** Stops sending; what waits is kept. No timer or listener is left. */
  close(): void {
    if (!this.#closed) {
      this.#closed = true;
      this.#undo.forEach((undo) => undo());
      this.#timers.clear();
      this.#tab.close();
      this.#store.close();
      this.#events.clear();
    }
  }

  #load(): void {
    this.#loading += 1;
    this.#loaded = this.#loaded.then(async () => {
      try {
        const found = await this.#keep((store) => store.load());
        // What is known is newer than what was read.
        const known = new Set(this.#messages.map(({ seq }) => seq));
        found.filter(({ seq }) => !known.has(seq)).forEach((stored) => this.#heard({ stored }));
      } catch (error) {
        this.#fail(error);
      }
      this.#loading -= 1;
      this.#pumpAll();
    });
  }

  #find(id: string): StoredMessage | undefined {
    this.#mustBeOpen();
    return this.#messages.find((stored) => stored.id === id);
  }

  #changed(stored: StoredMessage): void {
    this.#heard({ stored });
    this.#tab.tell({ stored });
  }

  #heard(news: News): void {
    if ('gone' in news) {
      this.#gone(news);
      if (this.#tab.leads) {
        // An attempt of this tab may have put it back before this was heard.
        this.#keep((store) => store.remove(news.gone.seq)).catch((error: unknown) => this.#fail(error));
      }
      return;
    }
    const { stored } = news;
    if (this.#left.has(stored.seq)) {
      return;
    }
    const old = this.#messages.find(({ seq }) => seq === stored.seq);
    this.#messages = [...this.#messages.filter((known) => known !== old), stored].sort((a, b) => a.seq - b.seq);
    // Other tabs tell of what was read from the store too.
    if (!old || !old.error !== !stored.error) {
      this.#events.emit('message', shown(stored));
    }
    this.#pump(stored.channel);
  }

  #gone({ gone, delivery }: Extract<News, { gone: unknown }>): void {
    this.#left.add(gone.seq);
    [...this.#left].slice(0, -LEFT).forEach((seq) => this.#left.delete(seq));
    this.#messages = this.#messages.filter(({ seq }) => seq !== gone.seq);
    if (delivery) {
      this.#events.emit('message', { ...shown(gone), state: 'sent', delivery });
    }
    this.#pump(gone.channel);
  }

  #pumpAll(): void {
    new Set(this.#messages.map(({ channel }) => channel)).forEach((channel) => this.#pump(channel));
  }

  /** Sends the first message of a channel, if it is time. */
  #pump(channel: string): void {
    const line = this.#lines.get(channel) ?? { attempt: 0, busy: false };
    const first = this.#messages.find((stored) => stored.channel === channel && !stored.error && !this.#left.has(stored.seq));
    const mayGo = !this.#loading && this.#tab.leads && this.#client.state.name === 'connected';
    if (!first || !mayGo || line.busy) {
      return;
    }
    line.busy = true;
    this.#lines.set(channel, line);
    this.#timers.clear(channel);
    void this.#attempt(first).then((again) => {
      const { minRetryDelay = 500, maxRetryDelay = 20_000 } = this.#options;
      line.busy = false;
      if (this.#closed) {
        return;
      }
      if (again) {
        this.#timers.set(channel, backoff(line.attempt++, minRetryDelay, maxRetryDelay));
      } else {
        this.#lines.delete(channel);
        this.#pump(channel);
      }
    });
  }

  /** Whether the message is to be tried again. */
  async #attempt(stored: StoredMessage): Promise<boolean> {
    const { state } = this.#client;
    const ttl = state.name === 'connected' ? (state.idempotencyTtl ?? 0) * 1_000 : 0;
    const { seq, id, data, channel, tried } = stored;
    const now = Date.now();
    const attempt = { ...stored, tried: { at: tried?.at ?? now, known: ttl > 0 && (tried?.known ?? true) } };
    this.#flying.set(id, sizeOf(data));
    try {
      // Before it leaves, or a reload would take the second attempt for the first.
      await this.#keep((store) => store.put(attempt));
      this.#messages = this.#messages.map((known) => (known.seq === seq ? attempt : known));
      await this.#client.publish(channel as keyof Channels & string, data as Channels[keyof Channels & string], {
        idempotencyKey: id,
      });
      const isOnce = !tried || (attempt.tried.known && Date.now() - tried.at < ttl);
      await this.#settle(attempt, isOnce ? 'exactly once' : 'at least once');
      return false;
    } catch (error) {
      return await this.#failed(attempt, error as BobolinkError);
    } finally {
      this.#flying.delete(id);
    }
  }

  async #settle(stored: StoredMessage, delivery: Delivery): Promise<void> {
    await this.#keep((store) => store.remove(stored.seq));
    if (!this.#closed) {
      this.#tab.tell({ gone: stored, delivery });
      this.#gone({ gone: stored, delivery });
    }
  }

  async #failed(stored: StoredMessage, error: BobolinkError): Promise<boolean> {
    const isTooBig = this.#tooBig === stored.id;
    // Without a connection it is the connection that failed, unless the message is what broke it.
    const isTemporary = error.temporary || this.#client.state.name !== 'connected';
    if (isTemporary && !isTooBig) {
      this.#fail(error);
      return true;
    }
    const { code, message } = isTooBig ? { code: ErrorCode.badData, message: 'message size limit' } : error;
    const failed = { ...stored, error: { code, message } };
    if (!this.#left.has(stored.seq)) {
      await this.#keep((store) => store.put(failed)).catch((cause: unknown) => this.#fail(cause));
      if (!this.#closed) {
        this.#changed(failed);
      }
    }
    return false;
  }

  /** What the store fails with, whatever it is, fails as an error of ours. */
  async #keep<T>(work: (store: OutboxStore) => Promise<T>): Promise<T> {
    try {
      return await work(this.#store);
    } catch (cause) {
      throw new BobolinkError(ErrorCode.store, 'store failed', true, { cause });
    }
  }

  #fail(error: unknown): void {
    this.#events.emit('error', error as BobolinkError);
  }

  #mustBeOpen(): void {
    if (this.#closed) {
      throw new BobolinkError(ErrorCode.closed, 'closed');
    }
  }
}

function shown<T>({ id, channel, data, at, error }: StoredMessage): OutboxMessage<T> {
  return { id, channel, data: data as T, at, state: error ? 'failed' : 'queued', error };
}

function sizeOf(data: unknown): number {
  try {
    return data instanceof Uint8Array ? data.length : new TextEncoder().encode(JSON.stringify(data)).length;
  } catch (cause) {
    throw new BobolinkError(ErrorCode.badData, 'what is to be sent cannot be written', false, { cause });
  }
}

/** Never the same twice, since a key that was used before would swallow a message. */
function newId(): string {
  // React Native has no `crypto`, and pages without TLS have no `randomUUID`.
  const { crypto } = globalThis as { crypto?: { randomUUID?: () => string } };
  return crypto?.randomUUID?.() ?? [Date.now(), Math.random(), Math.random()].join();
}
