/** Promises that wait for a state. */

import type { Clock, TimerId } from './environment.js';
import { BobolinkError, ErrorCode } from './errors.js';

interface Waiter {
  resolve(): void;
  reject(error: BobolinkError): void;
  timer: TimerId;
}

export class Readiness {
  readonly #waiting = new Set<Waiter>();

  constructor(readonly clock: Clock) {}

  /** Settled by the next `settle`, or rejected after `timeout` milliseconds. */
  wait(timeout?: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { resolve, reject, timer: undefined };
      this.#waiting.add(waiter);
      if (timeout !== undefined) {
        waiter.timer = this.clock.setTimeout(() => {
          this.#waiting.delete(waiter);
          reject(new BobolinkError(ErrorCode.timeout, 'timeout', true));
        }, timeout);
      }
    });
  }

  settle(error?: BobolinkError): void {
    for (const waiter of this.#waiting) {
      this.clock.clearTimeout(waiter.timer);
      if (error) {
        waiter.reject(error);
      } else {
        waiter.resolve();
      }
    }
    this.#waiting.clear();
  }
}
