/** What the leading tab holds of a channel, so that other tabs can come in and lose nothing. */

import type { Codec } from '../codec.js';
import type { DeltaDecoder } from '../publication.js';
import type { StreamPosition, SubscribeResult, WirePublication } from '../wire.js';

/** What a subscriber asks for. */
export type Wish = Partial<StreamPosition> & { recover?: boolean };

/** Publications kept for tabs that come in a moment later, as after a change of the leader. */
const KEPT = 100;

export class Feed {
  readonly #result: SubscribeResult;
  readonly #recent: WirePublication[];
  /** Behind this offset everything is in `recent`. */
  #from: number;
  #top: number;

  constructor(
    result: SubscribeResult,
    wish: Wish | undefined,
    readonly codec: Codec,
    readonly decoder?: DeltaDecoder,
  ) {
    const { publications = [], offset = 0, recovered } = result;
    this.#result = { ...result, publications: undefined, id: undefined, delta: undefined };
    this.#recent = publications.map((publication) => this.#whole(publication));
    this.#top = Math.max(offset, this.#recent.at(-1)?.offset ?? 0);
    this.#from = recovered ? (wish?.offset ?? 0) : this.#top;
  }

  get position(): StreamPosition {
    return { epoch: this.#result.epoch ?? '', offset: this.#top };
  }

  /** Publications behind an offset, if all of them are known. */
  since({ epoch, offset = 0 }: Wish): WirePublication[] | undefined {
    return epoch === this.#result.epoch && offset >= this.#from && offset <= this.#top
      ? this.#recent.filter((publication) => (publication.offset ?? 0) > offset)
      : undefined;
  }

  /** The server's answer for a subscriber that comes now. */
  answer(wish: Wish = {}): SubscribeResult {
    const { recover, offset = 0 } = wish;
    const publications = recover && this.#result.recoverable ? this.since(wish) : undefined;
    return {
      ...this.#result,
      offset: publications ? offset : this.#top,
      was_recovering: recover,
      recovered: !!publications,
      publications,
    };
  }

  /** The publication as other tabs get it. */
  add(publication: WirePublication): WirePublication {
    const whole = this.#whole(publication);
    const { offset } = whole;
    if (offset) {
      this.#top = offset;
      if (this.#recent.push(whole) > KEPT) {
        this.#from = this.#recent.shift()?.offset ?? 0;
      }
    }
    return whole;
  }

  #whole(publication: WirePublication): WirePublication {
    const { data, delta } = publication;
    return { ...publication, data: this.codec.payload(data, delta, this.decoder), delta: undefined };
  }
}
