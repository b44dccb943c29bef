/** Does one thing at a time: what is asked for while another is done waits for its end. */

/**
 * Effects of a state change call listeners, and listeners may cause the next state change. Run at
 * once, that change would overtake the remaining effects of the first.
 */
export class Mailbox {
  readonly #waiting: (() => void)[] = [];
  #busy = false;

  /** Runs `work` now, or right after what is running. */
  post(work: () => void): void {
    this.#waiting.push(work);
    if (this.#busy) {
      return;
    }
    this.#busy = true;
    try {
      for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
        next();
      }
    } finally {
      this.#busy = false;
    }
  }
}
