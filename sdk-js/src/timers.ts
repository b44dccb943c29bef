/** Timers by name, so that setting one replaces its predecessor and none is forgotten. */

import type { Environment, TimerId } from './environment.js';
import type { Expiry } from './wire.js';

/** A delay in milliseconds, drawn evenly from this range. */
export interface Delay {
  atLeast: number;
  atMost: number;
}

/** The longest delay `setTimeout` takes; beyond it, it would fire at once. */
const LONGEST = 2 ** 31 - 1;

export function exactly(ms: number): Delay {
  return { atLeast: ms, atMost: ms };
}

/** Full jitter: anywhere between now and a bound that doubles with every failed attempt. */
export function backoff(attempt: number, first: number, longest: number): Delay {
  return { atLeast: 0, atMost: Math.min(longest, first * 2 ** Math.min(attempt, 31)) };
}

/** Before a failed refresh is tried again. The server waits 25 s past the expiry by default. */
export const REFRESH_RETRY: Delay = { atLeast: 5_000, atMost: 10_000 };

/** The timer to renew a token by, as far as it expires and can be renewed. */
export function expiry(
  { settings }: { settings: { renewable: boolean } },
  { expires, ttl = 0 }: Expiry,
): [{ do: 'timer'; name: 'refresh'; delay: Delay } | { do: 'stop'; timer: 'refresh' }] {
  return expires && settings.renewable
    ? [{ do: 'timer', name: 'refresh', delay: exactly(ttl * 1000) }]
    : [{ do: 'stop', timer: 'refresh' }];
}

export class Timers<Name extends string> {
  readonly #running = new Map<Name, TimerId>();

  constructor(
    readonly environment: Pick<Environment, 'clock' | 'random'>,
    readonly onTimer: (name: Name) => void,
  ) {}

  set(name: Name, { atLeast, atMost }: Delay): void {
    const { clock, random } = this.environment;
    this.clear(name);
    const run = (): void => {
      this.#running.delete(name);
      this.onTimer(name);
    };
    const ms = Math.min(LONGEST, atLeast + random() * (atMost - atLeast));
    this.#running.set(name, clock.setTimeout(run, ms));
  }

  /** Stops one timer, or all of them. */
  clear(only?: Name): void {
    for (const [name, timer] of this.#running) {
      if (name === (only ?? name)) {
        this.environment.clock.clearTimeout(timer);
        this.#running.delete(name);
      }
    }
  }
}
