/** Messages on their way: the SDK's outbox keeps and sends them, this tells what became of them. */

import type { Client } from '@bobolink/client';
import { Outbox, type Delivery, type OutboxMessage, type OutboxOptions } from '@bobolink/client/outbox';

import type { Channels, Message } from './message.js';

export interface Outgoing {
  readonly message: Message;
  /** `sent` is what the server has taken, and has not come back through the channel yet. */
  readonly state: 'waiting' | 'sending' | 'sent' | 'failed';
  /** Why it failed, in words. */
  readonly reason?: string;
}

type Room = `dev-chat:${string}`;
type Kept = OutboxMessage<Message>;

/** How many messages are remembered as delivered, for their ticks. */
const REMEMBERED = 500;

export class OutgoingMessages {
  readonly #client: Client<Channels>;
  readonly #outbox: Outbox<Channels>;
  /** Taken by the server and not seen in their room yet, by their own id. */
  readonly #sent = new Map<string, Kept>();
  readonly #delivered = new Map<string, Delivery>();

  /** `name` is shared by the tabs of one user: what one of them wrote any of them may send. */
  constructor(client: Client<Channels>, options: OutboxOptions, changed: (channel: string) => void) {
    this.#client = client;
    this.#outbox = new Outbox<Channels>(client, options);
    this.#outbox.on('message', (message) => {
      if (message.state === 'sent') {
        this.#took(message as Kept);
      }
      changed(message.channel);
    });
  }

  /** Those of a channel, in the order in which they were written. */
  of(channel: string): readonly Outgoing[] {
    return [...this.#sent.values(), ...this.#kept]
      .filter((kept) => kept.channel === channel)
      .map((kept) => ({ message: kept.data, state: this.#stateOf(kept), reason: kept.error?.message }));
  }

  /** How many the server has not taken. */
  get waiting(): number {
    return this.#kept.filter(({ state }) => state === 'queued').length;
  }

  /** What can be promised of a message that this browser sent. */
  delivery(id: string): Delivery | undefined {
    return this.#delivered.get(id);
  }

  /** Resolves when the message is kept: a reload or a crash does not lose it any more. */
  async send(channel: Room, message: Message): Promise<void> {
    await this.#outbox.send(channel, message);
  }

  /** A message came back through its channel. */
  arrived(id: string): void {
    this.#sent.delete(id);
  }

  async retry(id: string): Promise<void> {
    await this.#outbox.retry(this.#find(id)?.id ?? '');
  }

  async discard(id: string): Promise<void> {
    await this.#outbox.remove(this.#find(id)?.id ?? '');
  }

  get #kept(): Kept[] {
    return this.#outbox.messages as Kept[];
  }

  #find(id: string): Kept | undefined {
    return this.#kept.find(({ data }) => data.id === id);
  }

  #took(message: Kept): void {
    this.#sent.set(message.data.id, message);
    if (message.delivery) {
      this.#delivered.set(message.data.id, message.delivery);
    }
    for (const id of [...this.#delivered.keys()].slice(0, -REMEMBERED)) {
      this.#delivered.delete(id);
    }
  }

  #stateOf({ state }: Kept): Outgoing['state'] {
    switch (state) {
      case 'queued':
        return this.#client.state.name === 'connected' ? 'sending' : 'waiting';
      default:
        return state;
    }
  }
}
