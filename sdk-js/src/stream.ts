/** Publications of a subscription for `for await`. */

import type { Undo } from './emitter.js';
import { BobolinkError, ErrorCode } from './errors.js';
import type { Publication } from './publication.js';
import type { Subscription } from './subscription.js';

export interface StreamOptions {
  /** How many publications may wait for the reader, 1024 by default. */
  buffer?: number;
  /** What happens past it: the loop ends with an error, or the oldest is dropped. */
  whenFull?: 'fail' | 'dropOldest';
}

const END = { value: undefined, done: true } as const;

interface Reader<T> {
  resolve: (result: IteratorResult<Publication<T>, undefined>) => void;
  reject: (error: BobolinkError) => void;
}

/**
 * Ends when the application unsubscribes or closes, and throws when the server ends the subscription
 * or the connection for good. Leaving the loop stops listening; the subscription stays.
 */
export class PublicationStream<T> implements AsyncIterableIterator<Publication<T>, undefined> {
  readonly #buffer: Publication<T>[] = [];
  readonly #readers: Reader<T>[] = [];
  readonly #undo: Undo[];
  #ended = false;
  #error: BobolinkError | undefined;

  constructor(
    subscription: Subscription<T>,
    readonly options: StreamOptions,
    /** Why nothing is to be expected from the beginning. */
    error?: BobolinkError,
  ) {
    this.#undo = [
      subscription.on('publication', (publication) => this.#push(publication)),
      subscription.on('unsubscribed', ({ error }) => this.#end(error)),
      subscription.on('stranded', (failure) => this.#end(failure)),
      subscription.on('closed', () => this.#end()),
    ];
    if (error || subscription.state.name === 'closed') {
      this.#end(error);
    }
  }

  next(): Promise<IteratorResult<Publication<T>, undefined>> {
    const value = this.#buffer.shift();
    if (value) {
      return Promise.resolve({ value, done: false });
    }
    if (this.#error) {
      const error = this.#error;
      this.#error = undefined;
      return Promise.reject(error);
    }
    if (this.#ended) {
      return Promise.resolve(END);
    }
    return new Promise((resolve, reject) => this.#readers.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<Publication<T>, undefined>> {
    this.#buffer.length = 0;
    this.#end();
    return Promise.resolve(END);
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #push(publication: Publication<T>): void {
    const reader = this.#readers.shift();
    if (reader) {
      reader.resolve({ value: publication, done: false });
      return;
    }
    const { buffer = 1024, whenFull } = this.options;
    if (this.#buffer.length < buffer) {
      this.#buffer.push(publication);
    } else if (whenFull === 'dropOldest') {
      this.#buffer.shift();
      this.#buffer.push(publication);
    } else {
      this.#end(new BobolinkError(ErrorCode.bufferFull, `more than ${buffer} wait`));
    }
  }

  #end(error?: BobolinkError): void {
    if (this.#ended) {
      return;
    }
    this.#ended = true;
    this.#undo.forEach((undo) => undo());
    const first = this.#readers.shift();
    if (first && error) {
      first.reject(error);
    } else {
      this.#error = error;
      first?.resolve(END);
    }
    this.#readers.splice(0).forEach(({ resolve }) => resolve(END));
  }
}
