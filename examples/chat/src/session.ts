/** One person's connection, which their tabs share, and what goes through it: rooms and messages. */

import { UnauthorizedError, type Client, type ClientState } from '@bobolink/client';
import { sharedClient } from '@bobolink/client/tabs';

import { readTyping, roomChannel, typingChannel, type Channels, type Message } from './message.js';
import { NetworkSwitch } from './network.js';
import { OutgoingMessages } from './outgoing.js';
import { Room } from './room.js';
import { Typing } from './typing.js';

export interface SessionEvents {
  connection(): void;
  room(room: Room): void;
  typing(): void;
}

export class Session {
  readonly rooms = new Map<string, Room>();
  readonly outgoing: OutgoingMessages;
  readonly #client: Client<Channels>;
  readonly #network: NetworkSwitch;
  #typing: { room: string; typing: Typing } | undefined;

  constructor(
    readonly user: string,
    readonly events: SessionEvents,
  ) {
    const endpoint = new URL('/connection/websocket', location.href);
    endpoint.protocol = endpoint.protocol.replace('http', 'ws');
    this.#network = new NetworkSwitch(() => events.connection());
    this.#client = sharedClient<Channels>(endpoint.href, {
      // Tabs with this name share the connection; those of another user have one of their own.
      name: `chat of ${user}`,
      getToken: () => tokenOf(user),
      network: this.#network.listen,
      maxReconnectDelay: 5_000,
    });
    this.outgoing = new OutgoingMessages(this.#client, { name: `bobolink-chat of ${user}` }, (channel) =>
      this.#outgoingChanged(channel),
    );
    this.#client.on('state', () => events.connection());
    this.#client.connect();
  }

  get state(): ClientState {
    return this.#client.state;
  }

  /** Whether the network is off, or pretended to be. */
  get offline(): boolean {
    return this.#network.off || !navigator.onLine;
  }

  get pretending(): boolean {
    return this.#network.off;
  }

  /** As if somebody pulled the cable, or put it back. */
  pretendOffline(off: boolean): void {
    this.#network.turn(off);
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
    const arrived = (id: string): void => this.outgoing.arrived(id);
    const archive = { url: new URL('/history', location.href).href, getToken: () => tokenOf(this.user) };
    const changed = (room: Room): void => this.events.room(room);
    const room = new Room(name, this.user, this.#client, archive, changed, arrived);
    this.rooms.set(name, room);
    return room;
  }

  /** Messages that wait to be sent there are sent all the same. */
  leave(name: string): void {
    if (this.#typing?.room === name) {
      this.#stopTyping();
    }
    this.rooms.get(name)?.close();
    this.rooms.delete(name);
  }

  /** Rejects if the message cannot even be kept. */
  send(room: Room, message: Message): Promise<void> {
    return this.outgoing.send(room.channel, message);
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
    this.#network.close();
  }

  #stopTyping(): void {
    if (this.#typing) {
      this.#typing.typing.close();
      this.#client.find(typingChannel(this.#typing.room))?.close();
      this.#typing = undefined;
    }
  }

  #outgoingChanged(channel: string): void {
    const room = [...this.rooms.values()].find(({ name }) => roomChannel(name) === channel);
    if (room) {
      this.events.room(room);
    }
    this.events.connection();
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
