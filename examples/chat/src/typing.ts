/** Who is typing, for as long as they keep saying so; and saying so ourselves, now and then. */

/** Milliseconds. Between two words to the others that we are still typing. */
const SAY_EVERY = 2_500;
/** After the last word of somebody; a little more than `SAY_EVERY`, so that it does not flicker. */
const HOLDS = 4_000;

export class Typing {
  readonly #until = new Map<string, ReturnType<typeof setTimeout>>();
  #saidAt = -Infinity;

  constructor(
    readonly say: (typing: boolean) => void,
    readonly changed: () => void,
  ) {}

  get users(): readonly string[] {
    return [...this.#until.keys()];
  }

  /** What was heard of a user. */
  heard(user: string, typing: boolean): void {
    clearTimeout(this.#until.get(user));
    this.#until.delete(user);
    if (typing) {
      this.#until.set(user, setTimeout(() => this.heard(user, false), HOLDS));
    }
    this.changed();
  }

  /** A key was pressed. */
  typed(now: number): void {
    if (now - this.#saidAt >= SAY_EVERY) {
      this.#saidAt = now;
      this.say(true);
    }
  }

  /** The message was sent or given up. */
  stopped(): void {
    if (this.#saidAt > -Infinity) {
      this.#saidAt = -Infinity;
      this.say(false);
    }
  }

  close(): void {
    this.#until.forEach((timer) => clearTimeout(timer));
    this.#until.clear();
  }
}
