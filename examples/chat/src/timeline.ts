/** The messages of a room in the order of its stream, each once, however they came. */

import type { Message } from './message.js';

export interface Entry {
  /** The same for a message while it waits to be sent and once it is in the stream. */
  readonly key: string;
  /** Counts the streams of the room: a server that lost its history begins another one. */
  readonly era: number;
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

/** Past this the oldest go; scrolling up loads them again. */
const KEEP = 2_000;

export class Timeline {
  #entries: Entry[] = [];
  readonly #ids = new Set<string>();
  /** Offsets of messages that were there already under another one. */
  readonly #repeats = new Set<string>();
  #era = 0;
  #epoch: string | undefined;
  #away: Away | undefined;

  constructor(readonly keep = KEEP) {}

  get entries(): readonly Entry[] {
    return this.#entries;
  }

  /** The offsets of the stream of today that are known, if there are any. */
  get range(): { oldest: number; newest: number } | undefined {
    const today = this.#entries.filter(({ era }) => era === this.#era);
    const [first, last] = [today[0], today.at(-1)];
    return first && last && { oldest: first.offset, newest: last.offset };
  }

  /** Whether this is the first of those that were missed the last time the connection was lost. */
  beginsMissed(before: Entry, after: Entry): boolean {
    const { since, upTo } = this.#away ?? { since: 0, upTo: 0 };
    return after.era === this.#era && before.offset <= since && since < after.offset && after.offset <= upTo;
  }

  /** The stream has this epoch now. Says whether it is the stream that was known. */
  follow(epoch: string): boolean {
    if (this.#epoch === epoch) {
      return true;
    }
    if (this.#epoch !== undefined) {
      this.#era += 1;
      this.#away = undefined;
    }
    this.#epoch = epoch;
    return false;
  }

  /** What is between these offsets came while the reader was not connected. */
  missed(since: number, upTo: number): void {
    this.#away = { since, upTo };
  }

  /** Adds a message unless it is there. Says whether it was added. */
  add(offset: number, author: string, message: Message): boolean {
    const place = `${this.#era}:${offset}`;
    const at = this.#placeOf(offset);
    const there = this.#entries[at];
    if (there?.era === this.#era && there.offset === offset) {
      return false;
    }
    if (message.id && this.#ids.has(message.id)) {
      this.#repeats.add(place);
      return false;
    }
    if (message.id) {
      this.#ids.add(message.id);
    }
    this.#entries.splice(at, 0, { key: message.id || place, era: this.#era, offset, author, message });
    if (this.#entries.length > this.keep) {
      this.#forgetOldest();
    }
    return true;
  }

  /** How many messages are missing between two neighbours of one era. */
  gap(before: Entry, after: Entry): number {
    let missing = after.offset - before.offset - 1;
    // Without repeats, which is nearly always, there is nothing to look for.
    for (let offset = before.offset + 1; this.#repeats.size > 0 && offset < after.offset; offset += 1) {
      missing -= this.#repeats.has(`${after.era}:${offset}`) ? 1 : 0;
    }
    return missing;
  }

  has(id: string): boolean {
    return this.#ids.has(id);
  }

  /** The index at which an offset of today stands, or would. */
  #placeOf(offset: number): number {
    let at = this.#entries.length;
    for (let entry; (entry = this.#entries[at - 1]); at -= 1) {
      if (entry.era < this.#era || entry.offset < offset) {
        return at;
      }
    }
    return at;
  }

  #forgetOldest(): void {
    const gone = this.#entries.shift();
    if (gone) {
      this.#ids.delete(gone.message.id);
    }
  }
}
