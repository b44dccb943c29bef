/** A clock that moves when told to, and counts the timers it holds. */

import type { Clock } from '../../src/index.js';

export class ManualClock implements Clock {
  #now = 1_000_000;
  #lastId = 0;
  readonly #timers = new Map<number, { at: number; run: () => void }>();

  now(): number {
    return this.#now;
  }

  setTimeout(run: () => void, ms: number): number {
    this.#timers.set(++this.#lastId, { at: this.#now + ms, run });
    return this.#lastId;
  }

  clearTimeout(id: unknown): void {
    this.#timers.delete(id as number);
  }

  /** Milliseconds until each timer, the soonest first. */
  get pending(): number[] {
    return [...this.#timers.values()].map(({ at }) => at - this.#now).sort((a, b) => a - b);
  }

  /** Lets time pass; after each timer everything it set off is settled. */
  async advance(ms: number): Promise<void> {
    const end = this.#now + ms;
    for (;;) {
      const [next] = [...this.#timers].filter(([, { at }]) => at <= end).sort(([, a], [, b]) => a.at - b.at);
      if (!next) {
        break;
      }
      const [id, { at, run }] = next;
      this.#now = Math.max(this.#now, at);
      this.#timers.delete(id);
      run();
      await settled();
    }
    this.#now = end;
    await settled();
  }
}

/** Resolves when all that hangs on microtasks is done. */
export function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}
