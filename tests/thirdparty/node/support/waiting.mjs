// Waiting for things to happen, always with a deadline and never by sleeping.

/** Default patience: several times what a busy machine stands still, since only a failing test uses it up. */
export const PATIENCE_MS = 15_000;

/** The promise's outcome, or a failure naming `what` after `ms`. */
export async function within(ms, what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms} ms in vain for ${what}`)), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Keeps what happened, in order, and lets a test wait until enough did. */
export class Record {
  #what;
  #waiting = new Set();
  items = [];

  constructor(what) {
    this.#what = what;
  }

  add(item) {
    this.items.push(item);
    this.#waiting.forEach((check) => check());
  }

  /** Waits until `enough(items)` holds; returns the items. */
  async until(enough, ms = PATIENCE_MS) {
    let check;
    const happened = new Promise((resolve) => {
      check = () => enough(this.items) && resolve(this.items);
    });
    this.#waiting.add(check);
    check();
    try {
      return await within(ms, this.#what, happened);
    } catch (error) {
      error.message += `, saw ${this.items.length}: ${JSON.stringify(this.items).slice(0, 2_000)}`;
      throw error;
    } finally {
      this.#waiting.delete(check);
    }
  }

  async count(count, ms = PATIENCE_MS) {
    return this.until((items) => items.length >= count, ms);
  }

  /** Waits for the first item, past or future, that fits, and returns it. */
  async find(fits, ms = PATIENCE_MS) {
    return (await this.until((items) => items.some(fits), ms)).find(fits);
  }

  async first(ms = PATIENCE_MS) {
    return (await this.count(1, ms))[0];
  }
}

/** Records the contexts of an emitter's event from now on. */
export function record(emitter, event) {
  const events = new Record(`event "${event}"`);
  emitter.on(event, (context) => events.add(context));
  return events;
}

/** Records several events of an emitter in the order they come, as `[event, context]`. */
export function recordAll(emitter, ...names) {
  const events = new Record(`events ${names.join(', ')}`);
  for (const name of names) {
    emitter.on(name, (context) => events.add([name, context]));
  }
  return events;
}
