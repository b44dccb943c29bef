/** Does one thing at a time: what is asked for while another is done waits for its end. */

/**
 * Effects of a state change call listeners, and listeners may cause the next state change. Run at
 * once, that change would overtake the remaining effects of the first.
 */
export class Mailbox {
  readonly #waiting: (() => void)[] = [];
  #busy = false;

  /** What fails is told to `failed`, and what waits goes on. */
  constructor(readonly failed: (error: unknown) => void) {}

  /** Runs `work` now, or right after what is running. */
  post(work: () => void): void {
    this.#waiting.push(work);
    if (this.#busy) {
      return;
    }
    this.#busy = true;
    for (let next = this.#waiting.shift(); next; next = this.#waiting.shift()) {
      try {
        next();
      } catch (error) {
        this.failed(error);
      }
    }
    this.#busy = false;
  }
}
