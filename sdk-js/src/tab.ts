/** Tabs of one page: how they speak with each other, and which of them does what only one may do. */

/** The part of the Web Locks API that is used. */
export interface LocksLike {
  request(name: string, options: { signal: AbortSignal }, held: () => Promise<void>): Promise<unknown>;
}

/** The part of a BroadcastChannel that is used. */
export interface ChannelLike {
  onmessage: unknown;
  postMessage(message: unknown): void;
  close(): void;
}

export interface TabMeans {
  locks: LocksLike;
  channel: (name: string) => ChannelLike;
}

export interface TabListener<Message> {
  /** From now on this tab is the one that leads, for as long as it lives. */
  leads(): void;
  heard(message: Message): void;
}

/** What the page offers; nothing where locks or channels are missing, as in Node.js before 24. */
export function pageMeans(): TabMeans | undefined {
  const { navigator, BroadcastChannel } = globalThis as {
    navigator?: { locks?: LocksLike };
    BroadcastChannel?: new (name: string) => ChannelLike;
  };
  const locks = navigator?.locks;
  return locks && BroadcastChannel && { locks, channel: (name) => new BroadcastChannel(name) };
}

/** One of several tabs that use the same name. Without means it is the only one, and leads. */
export class Tab<Message> {
  readonly #channel: ChannelLike | undefined;
  readonly #waiting = new AbortController();
  #release: (() => void) | undefined;
  #closed = false;

  constructor(name: string, means: TabMeans | undefined, listener: TabListener<Message>) {
    const lead = (): Promise<void> =>
      new Promise((release) => {
        this.#release = release;
        if (this.#closed) {
          release();
        } else {
          listener.leads();
        }
      });
    if (!means) {
      queueMicrotask(() => void lead());
      return;
    }
    this.#channel = means.channel(name);
    this.#channel.onmessage = ({ data }: { data: Message }) => listener.heard(data);
    // Rejected when this tab is closed while it waits.
    means.locks.request(name, { signal: this.#waiting.signal }, lead).catch(() => undefined);
  }

  get leads(): boolean {
    return this.#release !== undefined && !this.#closed;
  }

  /** To all other tabs. */
  tell(message: Message): void {
    this.#channel?.postMessage(message);
  }

  /** Leaves; the next tab leads, if this one did. */
  close(): void {
    this.#closed = true;
    this.#waiting.abort();
    this.#release?.();
    this.#channel?.close();
  }
}
