/** A room: its messages, who is there, and how it catches up after an absence. */

import { BobolinkError, type Client, type Publication, type StreamPosition, type Subscription } from '@bobolink/client';
import { ChannelHistory, type ChannelHistoryOptions, type HistoryMessage } from '@bobolink/client/history';

import { readMessage, roomChannel, type Channels, type Message } from './message.js';
import { People } from './people.js';
import { Timeline, type Placed } from './timeline.js';

/** Messages that a look back loads. */
const PAGE = 30;

/** Where what was said before can be read. */
export type Archive = Pick<ChannelHistoryOptions, 'url' | 'getToken'>;

export type RoomState = { name: 'joining' } | { name: 'joined' } | { name: 'refused'; reason: string };

export class Room {
  readonly channel;
  readonly timeline = new Timeline();
  readonly people = new People();
  /** Messages of others since the room was last read. */
  unread = 0;
  #state: RoomState = { name: 'joining' };
  #busy = false;
  #past: 'unread' | 'begun' | 'done' = 'unread';
  #trouble = '';
  readonly #subscription: Subscription<Message>;
  readonly #history: ChannelHistory<Message>;

  constructor(
    readonly name: string,
    readonly user: string,
    client: Client<Channels>,
    archive: Archive,
    readonly tell: (room: Room) => void,
    readonly arrived: (id: string) => void,
  ) {
    this.channel = roomChannel(name);
    const room = client.subscription(this.channel, { schema: readMessage, recoverable: true, joinLeave: true });
    this.#subscription = room;
    room.on('publication', (publication) => {
      this.#take(publication);
      this.#changed();
    });
    room.on('subscribed', ({ recovered, position }) => {
      this.#become({ name: 'joined' });
      void this.#catchUp(recovered, position ?? { offset: 0, epoch: '' });
      void this.#lookAround();
    });
    room.on('subscribing', () => this.#become({ name: 'joining' }));
    room.on('unsubscribed', ({ reason, error }) => this.#become({ name: 'refused', reason: error?.message ?? reason }));
    room.on('join', (info) => this.#moved(() => this.people.joined(info)));
    room.on('leave', (info) => this.#moved(() => this.people.left(info)));
    // Its pages end where the first message begins that is heard above.
    this.#history = new ChannelHistory(room, { ...archive, limit: PAGE });
    room.subscribe();
  }

  get state(): RoomState {
    return this.#state;
  }

  /** Whether messages are being loaded. */
  get busy(): boolean {
    return this.#busy;
  }

  /** Whether there may be messages from before those that are shown. */
  get hasEarlier(): boolean {
    return this.#past === 'begun' && !this.timeline.full;
  }

  /** Why messages could not be loaded, if they could not. */
  get trouble(): string {
    return this.#trouble;
  }

  /** Loads a page of what was said before. */
  async loadEarlier(): Promise<void> {
    if (!this.#busy && (this.hasEarlier || this.#trouble)) {
      await this.#load();
    }
  }

  close(): void {
    this.#subscription.close();
  }

  /** After each subscribe. */
  async #catchUp(recovered: boolean, { epoch, offset }: StreamPosition): Promise<void> {
    const sameStream = this.timeline.follow(epoch);
    const since = this.timeline.newest ?? 0;
    if (recovered) {
      // What was missed follows as publications, before anything else can happen.
      queueMicrotask(() => this.timeline.missed(since, this.timeline.newest ?? 0));
    } else {
      // Pages begin anew, with what is newest.
      this.#past = 'unread';
      if (sameStream) {
        this.timeline.clear();
      }
      this.timeline.missed(since, offset);
    }
    if (this.#past === 'unread' || this.#trouble) {
      await this.#load();
    }
  }

  async #load(): Promise<void> {
    this.#busy = true;
    this.#trouble = '';
    this.#changed();
    try {
      const { messages, done } = await this.#history.page();
      const page = messages.map(placed);
      this.timeline.addEarlier(page);
      page.forEach(({ message }) => this.arrived(message.id));
      this.#past = done ? 'done' : 'begun';
    } catch (error) {
      this.#trouble = error instanceof BobolinkError ? error.message : 'no answer';
    }
    this.#busy = false;
    this.#changed();
  }

  async #lookAround(): Promise<void> {
    try {
      this.people.replace(await this.#subscription.presence());
      this.#changed();
    } catch {
      // Joins and leaves still tell most of it; the next subscribe asks again.
    }
  }

  /** A message that is new to the reader. */
  #take({ offset = 0, info, data }: Publication<Message>): void {
    const added = this.timeline.add(offset, info?.user ?? '', data);
    this.arrived(data.id);
    if (added && info?.user !== this.user) {
      this.unread += 1;
    }
  }

  #moved(apply: () => void): void {
    apply();
    this.#changed();
  }

  #changed(): void {
    this.tell(this);
  }

  #become(state: RoomState): void {
    this.#state = state;
    this.#changed();
  }
}

/** What the archive holds may be of anybody, as what comes live. */
function placed({ epoch, offset, info, data }: HistoryMessage): Placed {
  return { epoch, offset, author: info?.user ?? '', message: readMessage(data) };
}
