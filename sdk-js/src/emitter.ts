/** Typed events. */

/** Undoes what returned it; calling it again does nothing. */
export type Undo = () => void;

export class Emitter<Events> {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): Undo {
    let listeners = this.#listeners.get(name);
    if (!listeners) {
      this.#listeners.set(name, (listeners = new Set()));
    }
    // A wrapper of its own, so that one function added twice is two listeners.
    const own = (event: Events[Name]): void => listener(event);
    listeners.add(own);
    return () => {
      listeners.delete(own);
    };
  }

  /** Calls every listener. One that throws is reported and does not keep the others from hearing. */
  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const listener of [...(this.#listeners.get(name) ?? [])]) {
      guarded(() => (listener as (event: Events[Name]) => void)(event));
    }
  }

  clear(): void {
    this.#listeners.clear();
  }
}

/** Tells of a state: as `state`, then under its own name. */
export function emitState(emitter: { emit(name: never, event: never): void }, state: { name: string }): void {
  emitter.emit('state' as never, state as never);
  emitter.emit(state.name as never, state as never);
}

/** Runs code of the application: what it throws is reported as uncaught, where the platform knows such. */
export function guarded(run: () => void): void {
  try {
    run();
  } catch (error) {
    const { reportError = console.error } = globalThis as { reportError?: (error: unknown) => void };
    reportError(error);
  }
}
