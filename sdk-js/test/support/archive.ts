/** A history service in memory: everything that a `FakeServer` ever published, in pages. */

import type { FakeServer } from '../../src/testing.js';
import type { StreamPosition } from '../../src/wire.js';

interface Stored {
  id: string;
  channel: string;
  epoch: string;
  offset: number;
  time: number;
  data?: unknown;
  b64data?: string;
  info?: object;
  tags?: object;
  prev: string | null;
}

export class FakeArchive {
  readonly stored: Stored[] = [];
  readonly requests: { url: URL; headers: Headers }[] = [];
  /** Answers instead of a page. */
  refusals: Response[] = [];
  epoch = 'fake';
  /** Messages that the service has not taken in yet. */
  #late: Stored[] = [];

  constructor(
    readonly server: FakeServer,
    readonly channel: string,
  ) {}

  /** Publishes, and stores now or when `catchUp` is called. */
  publish(data: unknown, { late = false, ...more }: { late?: boolean } & Partial<Stored> = {}): void {
    this.server.publish(this.channel, data);
    const offset = this.server.history(this.channel).at(-1)?.offset ?? 0;
    this.#late.push({ id: '', channel: this.channel, epoch: this.epoch, offset, time: 1_000 + offset, data, prev: null, ...more });
    if (!late) this.catchUp();
  }

  catchUp(count = Infinity): void {
    for (const message of this.#late.splice(0, count)) {
      const before = this.stored.at(-1);
      message.id = String(this.stored.length + 1);
      message.prev = before?.epoch === message.epoch ? before.id : null;
      this.stored.push(message);
    }
  }

  readonly fetch = ((url: string, { headers, signal }: RequestInit) => {
    signal?.throwIfAborted();
    this.requests.push({ url: new URL(url), headers: new Headers(headers) });
    const refusal = this.refusals.shift();
    return Promise.resolve(refusal ?? Response.json(this.#page(new URL(url).searchParams)));
  }) as typeof fetch;

  #page(query: URLSearchParams): object {
    const before = Number(query.get('cursor') ?? this.#place(query.get('epoch'), query.get('before_offset')));
    const limit = Number(query.get('limit') ?? 50);
    const messages = this.stored.filter(({ id }) => Number(id) < before).slice(-limit).reverse();
    const last = messages.at(-1);
    const { epoch = this.epoch, offset = 0 } = this.stored.at(-1) ?? {};
    const position: StreamPosition = { epoch, offset };
    return { messages, next_cursor: last && last.id !== '1' ? last.id : null, prev_cursor: null, position };
  }

  /** The number of the first message that is not before an offset. */
  #place(epoch: string | null, offset: string | null): number {
    if (offset === null) return Infinity;
    const first = this.stored.find((stored) => stored.epoch === epoch && stored.offset >= Number(offset));
    return first ? Number(first.id) : Infinity;
  }
}
