/** The messages of a room in the order of its stream, each once, however they came. */

import type { Message } from './message.js';

export interface Entry {
  /** The same for a message while it waits to be sent and once it is in the stream. */
  readonly key: string;
  /** Names the stream: a server that lost its history begins another one. */
  readonly epoch: string;
  readonly offset: number;
  /** Empty for what the backend said. */
  readonly author: string;
  readonly message: Message;
}

/** The offsets between which the reader was not connected. */
interface Away {
  readonly since: number;
  readonly upTo: number;
}

/** What has its place in a stream. */
export interface Placed {
  readonly epoch: string;
  readonly offset: number;
  readonly author: string;
  readonly message: Message;
}

/** More than this a page does not show: the oldest go. */
export const KEEP = 5_000;

export class Timeline {
  #entries: Entry[] = [];
  readonly #ids = new Set<string>();
  /** Offsets of messages that were there already under another one. */
  readonly #repeats = new Set<string>();
  /** Streams of the room, the oldest first; live is the last one. */
  #epochs: string[] = [];
  #away: Away | undefined;

  constructor(readonly keep = KEEP) {}

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  /** Whether nothing older has room here. */
  get full(): boolean {
    return this.#entries.length >= this.keep;
  }

  /** The newest offset of the live stream that is known. */
  get newest(): number | undefined {
    const last = this.#entries.at(-1);
    return last?.epoch === this.#epochs.at(-1) ? last?.offset : undefined;
  }

  /** Whether this is the first of those that were missed the last time the connection was lost. */
  beginsMissed(before: Entry, after: Entry): boolean {
    const { since, upTo } = this.#away ?? { since: 0, upTo: 0 };
    return after.epoch === this.#epochs.at(-1) && before.offset <= since && since < after.offset && after.offset <= upTo;
  }

  /** The live stream has this epoch now. Says whether it had it before. */
  follow(epoch: string): boolean {
    if (this.#epochs.at(-1) === epoch) {
      return true;
    }
    this.#epochs = [...this.#epochs.filter((known) => known !== epoch), epoch];
    this.#away = undefined;
    return false;
  }

  /** What is between these offsets came while the reader was not connected. */
  missed(since: number, upTo: number): void {
    this.#away = { since, upTo };
  }

  /** Adds a message of the live stream unless it is there. Says whether it was added. */
  add(offset: number, author: string, message: Message): boolean {
    const added = this.#insert({ epoch: this.#epochs.at(-1) ?? '', offset, author, message });
    while (this.#entries.length > this.keep) {
      this.#ids.delete(this.#entries.shift()?.message.id ?? '');
    }
    return added;
  }

  /** Adds what was said before, the oldest first, as far as there is room. */
  addEarlier(page: readonly Placed[]): void {
    for (const placed of [...page].reverse()) {
      if (this.full) {
        return;
      }
      // Pages lead back: an epoch that nobody knew is older than all that are known.
      if (!this.#epochs.includes(placed.epoch)) {
        this.#epochs.unshift(placed.epoch);
      }
      this.#insert(placed);
    }
  }

  /** Forgets all messages, since what is between them and the next ones is not known. */
  clear(): void {
    this.#entries = [];
    this.#ids.clear();
    this.#repeats.clear();
    this.#away = undefined;
  }

  /** How many messages are missing between two neighbours of one stream. */
  gap(before: Entry, after: Entry): number {
    let missing = after.offset - before.offset - 1;
    // Without repeats, which is nearly always, there is nothing to look for.
    for (let offset = before.offset + 1; this.#repeats.size > 0 && offset < after.offset; offset += 1) {
      missing -= this.#repeats.has(`${after.epoch}:${offset}`) ? 1 : 0;
    }
    return missing;
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  #insert({ epoch, offset, author, message }: Placed): boolean {
    const place = `${epoch}:${offset}`;
    const at = this.#placeOf(epoch, offset);
    const there = this.#entries[at - 1];
    if (there?.epoch === epoch && there.offset === offset) {
      return false;
    }
    if (message.id && this.#ids.has(message.id)) {
      this.#repeats.add(place);
      return false;
    }
    if (message.id) {
      this.#ids.add(message.id);
    }
    this.#entries.splice(at, 0, { key: message.id || place, epoch, offset, author, message });
    return true;
  }

  /** The index behind everything up to this place. Most is new, or older than all. */
  #placeOf(epoch: string, offset: number): number {
    const stream = this.#epochs.indexOf(epoch);
    const isBehind = (entry: Entry | undefined): boolean => {
      const other = entry ? this.#epochs.indexOf(entry.epoch) : -1;
      return other > stream || (other === stream && (entry?.offset ?? 0) > offset);
    };
    if (isBehind(this.#entries[0])) {
      return 0;
    }
    let at = this.#entries.length;
    while (at > 0 && isBehind(this.#entries[at - 1])) {
      at -= 1;
    }
    return at;
  }
}
