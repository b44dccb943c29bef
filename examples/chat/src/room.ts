/** A room: its messages, who is there, and how it catches up after an absence. */

import { BobolinkError, ErrorCode, type Client, type Publication, type StreamPosition, type Subscription } from '@bobolink/client';

import { readMessage, roomChannel, type Channels, type Message } from './message.js';
import { People } from './people.js';
import { Timeline } from './timeline.js';

/** Messages that a look back loads. */
const PAGE = 30;
/** Messages read at once to fill a hole; the server gives no more than this. */
const FILL = 300;

export type RoomState = { name: 'joining' } | { name: 'joined' } | { name: 'refused'; reason: string };

export class Room {
  readonly channel;
  readonly timeline = new Timeline();
  readonly people = new People();
  /** Messages of others since the room was last read. */
  unread = 0;
  #state: RoomState = { name: 'joining' };
  #busy = false;
  #atBeginning = false;
  /** What must be read so that nothing is missing; it stays until it is done. */
  #owed: (() => Promise<void>) | undefined;
  readonly #subscription: Subscription<Message>;

  constructor(
    readonly name: string,
    readonly user: string,
    client: Client<Channels>,
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
    return (this.timeline.range?.oldest ?? 0) > 1 && !this.#atBeginning;
  }

  /** Loads a page of what was said before. */
  async loadEarlier(): Promise<void> {
    const { range } = this.timeline;
    const epoch = this.#subscription.position?.epoch;
    if (!range || !epoch || !this.hasEarlier || this.#busy) {
      return;
    }
    await this.#loading(async () => {
      const since = { offset: range.oldest, epoch };
      const { publications } = await this.#subscription.history({ limit: PAGE, reverse: true, since });
      this.#atBeginning = publications.length === 0;
      publications.forEach((publication) => this.#insert(publication));
    });
  }

  close(): void {
    this.#subscription.close();
  }

  /** After each subscribe. */
  async #catchUp(recovered: boolean, { epoch, offset }: StreamPosition): Promise<void> {
    const sameStream = this.timeline.follow(epoch);
    const since = this.timeline.range?.newest;
    if (recovered) {
      // What was missed follows as publications, before anything else can happen.
      queueMicrotask(() => this.timeline.missed(since ?? 0, this.timeline.range?.newest ?? 0));
    }
    if (!sameStream || since === undefined) {
      this.#owed = () => this.#loadNewest();
    } else if (!recovered) {
      this.timeline.missed(since, offset);
      // What is owed already begins earlier, and ends where the stream does.
      this.#owed ??= () => this.#fill(since, epoch);
    }
    await this.#loading(async () => {
      await this.#owed?.();
      this.#owed = undefined;
    });
  }

  async #loadNewest(): Promise<void> {
    this.#atBeginning = false;
    const { publications } = await this.#subscription.history({ limit: PAGE, reverse: true });
    publications.forEach((publication) => this.#insert(publication));
  }

  /** More was missed than a recovery brings: read on from where we were. */
  async #fill(from: number, epoch: string): Promise<void> {
    const { position } = await this.#subscription.history();
    for (let offset = from; offset < position.offset; ) {
      const { publications } = await this.#subscription.history({ limit: FILL, since: { offset, epoch } });
      publications.forEach((publication) => this.#take(publication));
      const last = publications.at(-1)?.offset;
      if (last === undefined) {
        return;
      }
      offset = last;
    }
  }

  async #loading(load: () => Promise<void>): Promise<void> {
    this.#busy = true;
    this.#changed();
    try {
      await load();
    } catch (error) {
      // A lost connection comes back, and with it the next attempt.
      if (error instanceof BobolinkError && error.code === ErrorCode.unrecoverablePosition) {
        this.#atBeginning = true;
      }
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
  #take(publication: Publication<Message>): void {
    if (this.#insert(publication) && publication.info?.user !== this.user) {
      this.unread += 1;
    }
  }

  #insert({ offset = 0, info, data }: Publication<Message>): boolean {
    const added = this.timeline.add(offset, info?.user ?? '', data);
    this.arrived(data.id);
    return added;
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
