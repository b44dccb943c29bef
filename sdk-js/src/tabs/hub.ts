/**
 * The leading tab's end: one connection to the server, and guests, which are the clients of all tabs.
 *
 * A guest speaks the client protocol, so that every tab has a whole `Client` with its own states,
 * recovery and retries. The hub answers what it knows, passes on the rest, and ends all guests when
 * the server's connection ends: what follows from that each of them knows by itself.
 */

import { json, type Codec, type Frame } from '../codec.js';
import type { Environment } from '../environment.js';
import { BobolinkError, ErrorCode } from '../errors.js';
import { closing, Reason } from '../codes.js';
import type { ConnectionSettings } from '../machines/connection.js';
import type { DeltaCodec } from '../publication.js';
import { Requests } from '../requests.js';
import { backoff, exactly, Timers } from '../timers.js';
import type { Socket } from '../transport.js';
import type { Command, ConnectRequest, ConnectResult, Push, Reply, Verb } from '../wire.js';
import { Feed } from './feed.js';
import { Room, wireError, type Guest, type House } from './room.js';

/** Stands for a token where the connection is there already, or a token is known to the leader. */
export const NO_TOKEN = '-';

export interface HubSettings extends ConnectionSettings {
  endpoint: string;
  environment: Environment;
  codec: Codec;
  delta: DeltaCodec | undefined;
}

/** What tabs say to each other. */
export interface Letter {
  /** The first four are for the leader; the last two for all tabs. */
  type: 'open' | 'say' | 'leave' | 'ask' | 'opened' | 'heard' | 'closed' | 'told' | 'up' | 'leader';
  /** Names a guest's connection, or a question. */
  wire: string;
  frame?: string;
  code?: number;
  reason?: string;
  needs?: boolean;
}

/** How the hub reaches the tabs. */
export type Post = (letter: Letter) => void;

/** Pings that a guest may leave without an answer, as those do whose tab is gone. */
const PATIENCE = 2;
const ABNORMAL = 1006;

class Caller implements Guest {
  /** The connect command that waits. */
  greeting: { id: number | undefined; request: ConnectRequest } | undefined;
  connected = false;
  pings = 0;
  readonly early: Command[] = [];

  constructor(
    readonly name: string,
    readonly post: Post,
  ) {}

  reply(reply: Reply): void {
    this.post({ type: 'heard', wire: this.name, frame: JSON.stringify(reply) });
  }
}

export class Hub implements House {
  readonly requests: Requests;
  readonly numbers = new Map<number, Room>();
  readonly codec: Codec;
  readonly delta: DeltaCodec | undefined;
  readonly #guests = new Map<string, Caller>();
  readonly #rooms = new Map<string, Room>();
  /** Subscriptions that the server made. */
  readonly #feeds = new Map<string, Feed>();
  readonly #timers: Timers<'silence' | 'welcome'>;
  #socket: Socket | undefined;
  #welcome: ConnectResult | undefined;
  /** The last token that the server took. */
  #token = '';
  #expiresAt = 0;
  /** Who renews the token. */
  #keeper: Caller | undefined;
  #attempt = 0;
  #notBefore = 0;

  constructor(
    readonly settings: HubSettings,
    readonly post: Post,
  ) {
    const { environment, codec, delta, timeout } = settings;
    this.codec = codec;
    this.delta = delta;
    this.requests = new Requests(environment.clock, timeout, codec, (frame) => this.#write(frame));
    this.#timers = new Timers(environment, () => this.lost());
  }

  /** Whether whoever connects next has to bring a token. */
  get needsToken(): boolean {
    return !this.#socket && !this.#token;
  }

  open(name: string): void {
    if (!this.#socket && this.#now() < this.#notBefore) {
      this.post({ type: 'closed', wire: name, code: ABNORMAL });
    } else {
      this.#guests.set(name, new Caller(name, this.post));
      this.post({ type: 'opened', wire: name });
    }
  }

  received(name: string, frame: string): void {
    const guest = this.#guests.get(name);
    if (guest) {
      guest.pings = 0;
      json.decode(frame).forEach((command) => this.#command(guest, command as Command));
    }
  }

  left(name: string): void {
    const guest = this.#guests.get(name);
    if (!guest) {
      return;
    }
    this.#guests.delete(name);
    this.#rooms.forEach((room) => room.leave(guest));
    if (!this.#guests.size) {
      this.#hangUp();
    } else if (this.#keeper === guest && this.#expiresAt) {
      this.#keeper = [...this.#guests.values()].find(({ connected }) => connected);
      const ttl = Math.max(0, Math.round((this.#expiresAt - this.#now()) / 1_000));
      this.#keeper?.reply({ push: { refresh: { expires: true, ttl } } });
    }
  }

  /** Ends everything; guests go to the next leader. */
  close(): void {
    this.#end();
  }

  empty(channel: string): void {
    this.#rooms.delete(channel);
  }

  lost(code = ABNORMAL, reason = ''): void {
    const { environment, minReconnectDelay, maxReconnectDelay } = this.settings;
    if (!closing(code, reason).terminal) {
      const { atMost } = backoff(this.#attempt++, minReconnectDelay, maxReconnectDelay);
      this.#notBefore = this.#now() + environment.random() * atMost;
    }
    this.#end(code, reason);
  }

  #command(guest: Caller, command: Command): void {
    const { id, connect, subscribe, unsubscribe, send, refresh } = command;
    if (connect) {
      guest.greeting = { id, request: connect };
      this.#advance();
    } else if (!guest.connected) {
      guest.early.push(command);
    } else if (subscribe) {
      const room = this.#rooms.get(subscribe.channel) ?? new Room(subscribe.channel, this);
      this.#rooms.set(subscribe.channel, room);
      room.enter({ guest, id, request: subscribe });
    } else if (unsubscribe) {
      const { channel } = unsubscribe;
      this.#rooms.get(channel)?.leave(guest);
      if (this.#feeds.has(channel)) {
        // What the server made is every tab's, and ends for all.
        this.requests.call('unsubscribe', { channel }, () => undefined);
        this.#push({ channel, unsubscribe: Reason.called });
      }
      guest.reply({ id, unsubscribe: {} });
    } else if (send) {
      this.requests.send(send.data).catch(() => undefined);
    } else {
      const verb = Object.keys(command).find((key) => key !== 'id') as Verb | undefined;
      if (verb) {
        this.#forward(guest, id, verb, command, refresh?.token);
      }
    }
  }

  #forward(guest: Caller, id: number | undefined, verb: Verb, command: Command, token = ''): void {
    this.requests.call(verb, command[verb] as never, (outcome) => {
      if (outcome instanceof BobolinkError) {
        guest.reply({ id, error: wireError(outcome) });
        return;
      }
      if (token && 'expires' in outcome) {
        this.#token = token;
        this.#expires(outcome.expires, outcome.ttl);
      }
      const { publications, ...rest } = outcome as { publications?: { data?: unknown }[] };
      const read = publications?.map((publication) => ({ ...publication, data: this.codec.payload(publication.data) }));
      guest.reply({ id, [verb]: { ...rest, publications: read } });
    });
  }

  /** Answers those who connect, or connects so that they can be answered. */
  #advance(): void {
    const waiting = [...this.#guests.values()].filter(({ greeting }) => greeting);
    if (this.#welcome) {
      waiting.forEach((guest) => this.#greet(guest));
    } else if (!this.#socket && waiting[0]) {
      const opener = waiting.find(({ greeting }) => this.#token || greeting?.request.token !== NO_TOKEN);
      if (opener) {
        this.#open(opener);
      } else {
        this.#refuse(waiting[0], new BobolinkError(ErrorCode.tokenExpired, 'token expired', true));
      }
    }
  }

  #open(opener: Caller): void {
    const { endpoint, environment, timeout } = this.settings;
    const { request = {} } = opener.greeting ?? {};
    const token = request.token === NO_TOKEN ? this.#token : request.token;
    this.#timers.set('welcome', exactly(timeout));
    const socket = environment.transport(endpoint, {
      opened: () => {
        this.requests.open('early');
        this.requests.call('connect', { ...request, token }, (outcome) => this.#answered(opener, token, outcome), true);
      },
      received: (frame) => this.#received(frame),
      closed: (code, reason) => this.lost(code, reason),
    });
    this.#socket = socket;
  }

  #answered(opener: Caller, token = '', outcome: ConnectResult | BobolinkError): void {
    if (outcome instanceof BobolinkError) {
      this.#token = '';
      this.#hangUp();
      this.#refuse(opener, outcome);
      this.#advance();
      return;
    }
    const { subs = {} } = outcome;
    const wishes = opener.greeting?.request.subs;
    this.#welcome = outcome;
    this.#token = token;
    this.#keeper = opener;
    this.#attempt = 0;
    this.#expires(outcome.expires, outcome.ttl);
    this.#timers.clear('welcome');
    Object.entries(subs).forEach(([name, result]) => this.#feeds.set(name, new Feed(result, wishes?.[name], this.codec)));
    this.requests.open('open');
    this.#listen();
    this.#advance();
    this.post({ type: 'up', wire: '' });
  }

  #greet(guest: Caller): void {
    const { id, request: { subs } = {} } = guest.greeting ?? {};
    const keeps = guest === this.#keeper;
    const answers = [...this.#feeds].map(([name, feed]) => [name, feed.answer(subs?.[name])] as const);
    guest.greeting = undefined;
    guest.connected = true;
    guest.reply({
      id,
      connect: {
        ...(this.#welcome as ConnectResult),
        ...(keeps ? undefined : { expires: undefined, ttl: undefined }),
        subs: Object.fromEntries(answers),
      },
    });
    guest.early.splice(0).forEach((command) => this.#command(guest, command));
  }

  #refuse(guest: Caller, error: BobolinkError): void {
    const { id } = guest.greeting ?? {};
    guest.greeting = undefined;
    guest.reply({ id, error: wireError(error) });
  }

  #expires(expires = false, ttl = 0): void {
    this.#expiresAt = expires ? this.#now() + ttl * 1_000 : 0;
  }

  #received(frame: Frame): void {
    let replies: Reply[];
    try {
      replies = this.codec.decode(frame);
    } catch {
      this.lost();
      return;
    }
    this.#listen();
    for (const reply of replies) {
      if (reply.id) {
        this.requests.settle(reply);
      } else if (reply.push) {
        this.#push(reply.push);
      } else {
        this.#ping();
      }
    }
  }

  #ping(): void {
    if (this.#welcome?.pong) {
      this.#write(this.codec.encode({}));
    }
    for (const guest of [...this.#guests.values()]) {
      if (guest.connected && ++guest.pings > PATIENCE) {
        this.post({ type: 'closed', wire: guest.name, code: ABNORMAL });
        this.left(guest.name);
      } else {
        guest.reply({});
      }
    }
  }

  #push(push: Push): void {
    const { channel = '', id, pub, subscribe, unsubscribe, refresh, disconnect } = push;
    const room = id ? this.numbers.get(id) : this.#rooms.get(channel);
    if (room) {
      room.push(push);
    } else if (disconnect) {
      this.lost(disconnect.code, disconnect.reason);
    } else if (refresh) {
      this.#expires(refresh.expires, refresh.ttl);
      this.#keeper?.reply({ push });
    } else {
      if (subscribe) {
        this.#feeds.set(channel, new Feed(subscribe, undefined, this.codec));
      } else if (unsubscribe) {
        this.#feeds.delete(channel);
      }
      const whole = pub && (this.#feeds.get(channel)?.add(pub) ?? pub);
      this.#guests.forEach((guest) => guest.connected && guest.reply({ push: { ...push, pub: whole } }));
    }
  }

  /** A server that pings and is not heard is gone, even if the socket does not know. */
  #listen(): void {
    const { ping } = this.#welcome ?? {};
    if (ping) {
      this.#timers.set('silence', exactly(ping * 1_000 + this.settings.maxServerPingDelay));
    }
  }

  #write(frame: Frame): void {
    try {
      this.#socket?.send(frame);
    } catch {
      this.lost();
    }
  }

  #end(code = ABNORMAL, reason = ''): void {
    const guests = [...this.#guests.keys()];
    this.#guests.clear();
    this.#hangUp();
    guests.forEach((wire) => this.post({ type: 'closed', wire, code, reason }));
  }

  #hangUp(): void {
    const socket = this.#socket;
    this.#socket = this.#welcome = this.#keeper = undefined;
    this.#expiresAt = 0;
    this.#timers.clear();
    this.#rooms.clear();
    this.#feeds.clear();
    this.numbers.clear();
    this.requests.shut();
    this.requests.failAll(new BobolinkError(ErrorCode.connectionLost, 'connection lost', true));
    socket?.close();
  }

  #now(): number {
    return this.settings.environment.clock.now();
  }
}
