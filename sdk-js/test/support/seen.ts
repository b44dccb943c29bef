/** Waiting for things to happen, always with a deadline and never by sleeping. */

import type { Undo } from '../../src/index.js';

/** Milliseconds; only ever used up by a failing test, so it may be several times what a busy machine stands still. */
export const PATIENCE = 15_000;

/** Keeps what happened, in order. */
export class Seen<T> {
  readonly items: T[] = [];
  readonly #checks = new Set<() => void>();

  constructor(
    readonly what: string,
    listen: (add: (item: T) => void) => Undo | undefined,
  ) {
    listen((item) => {
      this.items.push(item);
      this.#checks.forEach((check) => check());
    });
  }

  /** Resolves with the items once there are so many. */
  count(count: number, patience = PATIENCE): Promise<T[]> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => reject(new Error(`waited in vain for ${count} of ${this.what}, saw ${JSON.stringify(this.items)}`)),
        patience,
      );
      const check = (): void => {
        if (this.items.length >= count) {
          clearTimeout(timer);
          this.#checks.delete(check);
          resolve(this.items);
        }
      };
      this.#checks.add(check);
      check();
    });
  }
}
