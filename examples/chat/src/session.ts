/** One person's connection, and what goes through it: the rooms and the outbox. */

import { Client, UnauthorizedError, type ClientState, type Network, type NetworkEvent } from '@bobolink/client';

import { readTyping, roomChannel, typingChannel, type Channels, type Message } from './message.js';
import { Outbox } from './outbox.js';
import { Room } from './room.js';
import { Typing } from './typing.js';

export interface SessionEvents {
  connection(): void;
  room(room: Room): void;
  typing(): void;
}

export class Session {
  readonly rooms = new Map<string, Room>();
  readonly outbox: Outbox;
  readonly #client: Client<Channels>;
  readonly #switch = new NetworkSwitch();
  #typing: { room: string; typing: Typing } | undefined;

  constructor(
    readonly user: string,
    readonly events: SessionEvents,
  ) {
    const endpoint = new URL('/connection/websocket', location.href);
    endpoint.protocol = endpoint.protocol.replace('http', 'ws');
    this.#client = new Client<Channels>(endpoint.href, {
      name: 'chat',
      getToken: () => tokenOf(user),
      network: this.#switch.listen,
      maxReconnectDelay: 5_000,
    });
    this.outbox = new Outbox(
      (channel, message) => this.#client.publish(channel as `dev-chat:${string}`, message),
      (channel) => this.#outboxChanged(channel),
    );
    this.#client.on('state', ({ name }) => {
      this.outbox.connected(name === 'connected');
      events.connection();
    });
    this.#client.connect();
  }

  get state(): ClientState {
    return this.#client.state;
  }

  /** Whether the network is off, or pretended to be. */
  get offline(): boolean {
    return this.#switch.off || !navigator.onLine;
  }

  get pretending(): boolean {
    return this.#switch.off;
  }

  /** Stays connected while `off` is not true, as if somebody pulled the cable. */
  pretendOffline(off: boolean): void {
    this.#switch.turn(off);
    this.events.connection();
  }

  /** Tries again after the server ended the connection. */
  connect(): void {
    this.#client.connect();
  }

  join(name: string): Room {
    const known = this.rooms.get(name);
    if (known) {
      return known;
    }
    const arrived = (id: string): void => this.outbox.arrived(id);
    const room = new Room(name, this.user, this.#client, this.events.room, arrived);
    this.rooms.set(name, room);
    return room;
  }

  leave(name: string): void {
    this.rooms.get(name)?.close();
    this.rooms.delete(name);
  }

  send(room: Room, message: Message): void {
    this.outbox.send(room.channel, message);
  }

  /** Who types in this room; there is one such room at a time. */
  typingIn(room: string): Typing {
    if (this.#typing?.room === room) {
      return this.#typing.typing;
    }
    this.#stopTyping();
    const subscription = this.#client.subscription(typingChannel(room), { schema: readTyping }).subscribe();
    const typing = new Typing(
      (yes) => {
        // Nobody waits for this; if it cannot be said now, it need not be said.
        if (this.state.name === 'connected') {
          subscription.publish({ typing: yes }).catch(() => undefined);
        }
      },
      () => this.events.typing(),
    );
    subscription.on('publication', ({ data, info }) => {
      if (info && info.user !== this.user) {
        typing.heard(info.user, data.typing);
      }
    });
    this.#typing = { room, typing };
    return typing;
  }

  close(): void {
    this.#stopTyping();
    this.#client.close();
  }

  #stopTyping(): void {
    if (this.#typing) {
      this.#typing.typing.close();
      this.#client.find(typingChannel(this.#typing.room))?.close();
      this.#typing = undefined;
    }
  }

  #outboxChanged(channel: string): void {
    const room = [...this.rooms.values()].find(({ name }) => roomChannel(name) === channel);
    if (room) {
      this.events.room(room);
    }
    this.events.connection();
  }
}

/** Tells the client of the page's network, and of none while it is switched off. */
class NetworkSwitch {
  off = false;
  #tell: ((event: NetworkEvent) => void) | undefined;

  readonly listen: Network = (listener) => {
    const unless = (run: () => void) => () => void (this.off || run());
    const online = unless(() => listener('online'));
    const offline = unless(() => listener('offline'));
    const visible = unless(() => document.visibilityState === 'visible' && listener('visible'));
    this.#tell = listener;
    window.addEventListener('online', online);
    window.addEventListener('offline', offline);
    document.addEventListener('visibilitychange', visible);
    return () => {
      window.removeEventListener('online', online);
      window.removeEventListener('offline', offline);
      document.removeEventListener('visibilitychange', visible);
    };
  };

  turn(off: boolean): void {
    this.off = off;
    this.#tell?.(off || !navigator.onLine ? 'offline' : 'online');
  }
}

/** In an application the backend signs this, for who has logged in. */
async function tokenOf(user: string): Promise<string> {
  const response = await fetch('/dev/token', { method: 'POST', body: JSON.stringify({ user }) });
  if (response.status === 404) {
    throw new UnauthorizedError('this server gives no tokens: start it with "bobolink serve --dev"');
  }
  if (!response.ok) {
    throw new Error(`the token endpoint answered ${response.status}`);
  }
  const { token } = (await response.json()) as { token: string };
  return token;
}
