/** Does one thing at a time: what is asked for while another is done waits for its end. */

type Work = () => void;

/**
 * Effects of a state change call listeners, and listeners may cause the next state change. Run at
 * once, that change would overtake the remaining effects of the first.
 */
export class Mailbox {
  readonly #changes: Work[] = [];
  readonly #incoming: Work[] = [];
  #busy = false;

  /** What fails is told to `failed`, and what waits goes on. */
  constructor(readonly failed: (error: unknown) => void) {}

  /** Runs `work` now, or after what is running and its like. */
  post(work: Work): void {
    this.#changes.push(work);
    this.#run();
  }

  /** The same for what the server sent: it waits until all that came of what was before it is done. */
  receive(work: Work): void {
    this.#incoming.push(work);
    this.#run();
  }

  #run(): void {
    if (this.#busy) {
      return;
    }
    this.#busy = true;
    for (let next; (next = this.#changes.shift() ?? this.#incoming.shift()); ) {
      try {
        next();
      } catch (error) {
        this.failed(error);
      }
    }
    this.#busy = false;
  }
}
