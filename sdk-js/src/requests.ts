/** Commands on their way: waiting to be sent, sent together, and waiting for their replies. */

import type { Codec, Frame } from './codec.js';
import type { Clock, TimerId } from './environment.js';
import { BobolinkError, ErrorCode } from './errors.js';
import type { Command, Reply, Requests as RequestOf, Results, Verb } from './wire.js';

/** What may pass: nothing, what belongs to connecting and subscribing, everything. */
export type Gate = 'shut' | 'early' | 'open';

/** How a command ended. */
export type Outcome<V extends Verb> = Results[V] | BobolinkError;

interface Entry {
  command: Command;
  encoded: Frame;
  early: boolean;
  sent: boolean;
  timer: TimerId;
  done(outcome: Reply | BobolinkError): void;
}

/**
 * Characters of a frame with several commands. As UTF-8 they take at most three times as much, which
 * is below the 64 KiB that servers accept by default.
 */
const FRAME_LIMIT = 16_384;

export class Requests {
  readonly #entries = new Map<number, Entry>();
  #lastId = 0;
  #gate: Gate = 'shut';
  #flushing = false;

  constructor(
    readonly clock: Clock,
    /** Milliseconds until a command without reply fails. */
    readonly timeout: number,
    readonly codec: Codec,
    readonly write: (frame: Frame, commands: Command[]) => void,
  ) {}

  /** Sends a command as soon as it may pass and calls `done` once, whatever comes. */
  call<V extends Verb>(verb: V, request: RequestOf[V], done: (outcome: Outcome<V>) => void, early = false): void {
    if ((request as { channel?: string }).channel === '') {
      // A server would end the connection over it.
      done(new BobolinkError(ErrorCode.badData, 'a channel needs a name'));
      return;
    }
    const id = ++this.#lastId;
    this.#add(id, { id, [verb]: request }, early, (outcome) =>
      // A result without content may be left out of the reply.
      done(outcome instanceof BobolinkError ? outcome : ((outcome[verb] ?? {}) as Results[V])),
    );
  }

  request<V extends Verb>(verb: V, request: RequestOf[V]): Promise<Results[V]> {
    return new Promise((resolve, reject) => {
      this.call(verb, request, (outcome) => (outcome instanceof BobolinkError ? reject(outcome) : resolve(outcome)));
    });
  }

  /** Sends what has no reply; resolves once it is written. */
  send(data: unknown): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#add(++this.#lastId, { send: { data } }, false, (outcome) =>
        outcome instanceof BobolinkError ? reject(outcome) : resolve(),
      );
    });
  }

  /** Lets commands pass from now on. */
  open(gate: Gate): void {
    this.#gate = gate;
    this.#schedule();
  }

  /** The connection is gone: what was sent fails, what waits to be sent waits for the next one. */
  shut(): void {
    this.#gate = 'shut';
    this.#fail(
      new BobolinkError(ErrorCode.connectionLost, 'connection lost', true),
      ({ sent, early }) => sent || early,
    );
  }

  failAll(error: BobolinkError): void {
    this.#fail(error, () => true);
  }

  settle(reply: Reply): void {
    const { id = 0, error } = reply;
    this.#finish(id, error ? new BobolinkError(error.code, error.message, error.temporary === true) : reply);
  }

  #add(id: number, command: Command, early: boolean, done: Entry['done']): void {
    let encoded: Frame;
    try {
      encoded = this.codec.encode(command);
    } catch (cause) {
      done(new BobolinkError(ErrorCode.badData, 'what is to be sent cannot be written', false, { cause }));
      return;
    }
    const late = (): void => this.#finish(id, new BobolinkError(ErrorCode.timeout, 'timeout', true));
    const timer = this.clock.setTimeout(late, this.timeout);
    this.#entries.set(id, { command, encoded, early, sent: false, timer, done });
    this.#schedule();
  }

  #fail(error: BobolinkError, which: (entry: Entry) => boolean): void {
    for (const [id, entry] of [...this.#entries]) {
      if (which(entry)) {
        this.#finish(id, error);
      }
    }
  }

  #finish(id: number, outcome: Reply | BobolinkError): void {
    const entry = this.#entries.get(id);
    if (entry && this.#entries.delete(id)) {
      this.clock.clearTimeout(entry.timer);
      entry.done(outcome);
    }
  }

  /** Commands given in one go leave in one frame. */
  #schedule(): void {
    if (!this.#flushing && this.#gate !== 'shut') {
      this.#flushing = true;
      queueMicrotask(() => this.#flush());
    }
  }

  #flush(): void {
    this.#flushing = false;
    let size = 0;
    let batch: Entry[] = [];
    const emit = (): void => {
      if (size) {
        const frame = this.codec.join(batch.map(({ encoded }) => encoded));
        this.write(frame, batch.map(({ command }) => command));
      }
      [size, batch] = [0, []];
    };
    for (const [id, entry] of [...this.#entries]) {
      if (entry.sent || this.#gate === 'shut' || (this.#gate === 'early' && !entry.early)) {
        continue;
      }
      if (size + entry.encoded.length > FRAME_LIMIT) {
        emit();
      }
      size += entry.encoded.length;
      batch.push(entry);
      entry.sent = true;
      if (!entry.command.id) {
        this.#finish(id, {});
      }
    }
    emit();
  }
}
