/** Messages on their way: kept while there is no connection, sent in order, told what became of them. */

import type { Message } from './message.js';

export interface Outgoing {
  readonly channel: string;
  readonly message: Message;
  /** `sent` is what the server has taken, and has not come back through the channel yet. */
  readonly state: 'waiting' | 'sending' | 'sent' | 'failed';
  /** Why it failed, in words. */
  readonly reason?: string;
}

/** What a failed attempt to publish says: whether the same may succeed later. */
export interface Refusal {
  readonly message: string;
  readonly temporary: boolean;
}

/** Milliseconds until the next attempt while the connection stands. */
const RETRY = 1_000;
/** A person who is offline writes less than this. */
const LIMIT = 500;

/**
 * A message that was published just before the connection broke is published again, since nobody said
 * that it arrived. Its `id` tells: the timeline shows it once.
 */
export class Outbox {
  #items: Outgoing[] = [];
  #open = false;
  #draining = false;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly publish: (channel: string, message: Message) => Promise<void>,
    readonly changed: (channel: string) => void,
  ) {}

  /** Those of a channel, in the order in which they were written. */
  of(channel: string): readonly Outgoing[] {
    return this.#items.filter((item) => item.channel === channel);
  }

  /** How many the server has not taken. */
  get waiting(): number {
    return this.#items.filter(({ state }) => state === 'waiting' || state === 'sending').length;
  }

  get full(): boolean {
    return this.#items.length >= LIMIT;
  }

  send(channel: string, message: Message): void {
    this.#items.push({ channel, message, state: 'waiting' });
    this.changed(channel);
    void this.#drain();
  }

  /** There is a connection, or there is none any more. */
  connected(open: boolean): void {
    this.#open = open;
    clearTimeout(this.#timer);
    void this.#drain();
  }

  /** A message came back through its channel. */
  arrived(id: string): void {
    this.#remove(({ message, state }) => message.id === id && state !== 'failed');
  }

  retry(id: string): void {
    const item = this.#items.find(({ message }) => message.id === id);
    if (item) {
      this.#become(item, 'waiting');
      void this.#drain();
    }
  }

  discard(id: string): void {
    this.#remove(({ message, state }) => message.id === id && state === 'failed');
  }

  async #drain(): Promise<void> {
    if (this.#draining) {
      return;
    }
    this.#draining = true;
    for (let next; this.#open && (next = this.#items.find(({ state }) => state === 'waiting')); ) {
      const carryOn = await this.#attempt(this.#become(next, 'sending'));
      if (!carryOn) {
        break;
      }
    }
    this.#draining = false;
  }

  /** Says whether the next message may be tried. */
  async #attempt(item: Outgoing): Promise<boolean> {
    const { message } = item;
    const now = (): Outgoing | undefined => this.#items.find((other) => other.message.id === message.id);
    try {
      await this.publish(item.channel, message);
      const left = now();
      if (left) {
        this.#become(left, 'sent');
      }
      return true;
    } catch (error) {
      const refusal = error as Refusal;
      const left = now();
      if (left && refusal.temporary) {
        this.#become(left, 'waiting');
        this.#timer = setTimeout(() => void this.#drain(), RETRY);
        return false;
      }
      if (left) {
        this.#become(left, 'failed', refusal.message);
      }
      return true;
    }
  }

  #become(item: Outgoing, state: Outgoing['state'], reason?: string): Outgoing {
    const next = { ...item, state, reason };
    this.#items = this.#items.map((other) => (other === item ? next : other));
    this.changed(item.channel);
    return next;
  }

  #remove(gone: (item: Outgoing) => boolean): void {
    const channels = this.#items.filter(gone).map(({ channel }) => channel);
    this.#items = this.#items.filter((item) => !gone(item));
    channels.forEach((channel) => this.changed(channel));
  }
}
