/** Tabs of a browser that has locks and channels, each of which can be closed as a browser does. */

import type { ChannelLike, TabMeans } from '../../src/tab.js';

interface Waiter {
  tab: FakeTab;
  grant: () => void;
}

export class FakeBrowser {
  readonly tabs: FakeTab[] = [];
  readonly #queues = new Map<string, Waiter[]>();

  tab(): FakeTab {
    const tab = new FakeTab(this);
    this.tabs.push(tab);
    return tab;
  }

  /** How many locks are held or waited for. */
  get locks(): number {
    return [...this.#queues.values()].reduce((sum, queue) => sum + queue.length, 0);
  }

  get channels(): number {
    return this.tabs.reduce((sum, { channels }) => sum + channels.size, 0);
  }

  queue(name: string): Waiter[] {
    const queue = this.#queues.get(name) ?? [];
    this.#queues.set(name, queue);
    return queue;
  }

  /** Takes a request out; whoever is first then has the lock. */
  leave(name: string, waiter: Waiter): void {
    const queue = this.queue(name);
    const first = queue[0];
    queue.splice(queue.indexOf(waiter), 1);
    if (first === waiter) queue[0]?.grant();
  }

  post(channel: FakeChannel, message: unknown): void {
    for (const tab of this.tabs) {
      for (const other of tab.channels) {
        if (other !== channel && other.name === channel.name) {
          const data: unknown = structuredClone(message);
          setImmediate(() => {
            if (tab.channels.has(other)) (other.onmessage as (event: { data: unknown }) => void)({ data });
          });
        }
      }
    }
  }
}

class FakeChannel implements ChannelLike {
  onmessage: unknown;

  constructor(
    readonly tab: FakeTab,
    readonly name: string,
  ) {}

  postMessage(message: unknown): void {
    if (this.tab.channels.has(this)) this.tab.browser.post(this, message);
  }

  close(): void {
    this.tab.channels.delete(this);
  }
}

export class FakeTab {
  readonly channels = new Set<FakeChannel>();
  readonly #held = new Map<Waiter, string>();

  constructor(readonly browser: FakeBrowser) {}

  readonly means: TabMeans = {
    channel: (name) => {
      const channel = new FakeChannel(this, name);
      this.channels.add(channel);
      return channel;
    },
    locks: {
      request: (name, { signal }, held) =>
        new Promise((resolve, reject) => {
          const waiter: Waiter = {
            tab: this,
            grant: () => {
              signal.removeEventListener('abort', aborted);
              void held().then(() => {
                this.#leave(waiter);
                resolve(undefined);
              });
            },
          };
          const aborted = (): void => {
            this.#leave(waiter);
            reject(signal.reason as Error);
          };
          signal.addEventListener('abort', aborted);
          this.#held.set(waiter, name);
          if (this.browser.queue(name).push(waiter) === 1) setImmediate(waiter.grant);
        }),
    },
  };

  /** The user closes it: nothing of its code runs any more, and its locks are free. */
  kill(): void {
    this.channels.clear();
    [...this.#held.keys()].forEach((waiter) => this.#leave(waiter));
  }

  #leave(waiter: Waiter): void {
    const name = this.#held.get(waiter);
    if (name !== undefined) {
      this.#held.delete(waiter);
      this.browser.leave(name, waiter);
    }
  }
}
