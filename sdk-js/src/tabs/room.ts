/** One channel of the shared connection and the guests that are subscribed to it. */

import { BobolinkError, ErrorCode } from '../errors.js';
import type { Requests } from '../requests.js';
import type { Codec } from '../codec.js';
import type { DeltaCodec } from '../publication.js';
import { SubscribeFlag, type Push, type Reply, type SubscribeRequest, type SubscribeResult, type WireError } from '../wire.js';
import { Feed } from './feed.js';

/** A tab's connection to the leader. */
export interface Guest {
  reply(reply: Reply): void;
}

interface Caller {
  guest: Guest;
  id: number | undefined;
  request: SubscribeRequest;
}

/** What a room needs of the connection. */
export interface House {
  requests: Requests;
  codec: Codec;
  delta: DeltaCodec | undefined;
  numbers: Map<number, Room>;
  /** Nobody is in the room any more. */
  empty(channel: string): void;
  /** The connection is of no use any more. */
  lost(): void;
}

export function wireError({ code, message, temporary }: BobolinkError): WireError {
  return { code, message, temporary };
}

/** Makes subscribers begin anew, from where they are. */
const INSUFFICIENT = { code: 2500, reason: 'insufficient state' };

export class Room {
  readonly guests = new Set<Guest>();
  #callers: Caller[] = [];
  #asking = false;
  #asked: SubscribeRequest | undefined;
  #feed: Feed | undefined;
  #number: number | undefined;

  constructor(
    readonly channel: string,
    readonly house: House,
  ) {}

  enter(caller: Caller): void {
    this.#callers.push(caller);
    this.#serve();
  }

  leave(guest: Guest): void {
    this.guests.delete(guest);
    this.#callers = this.#callers.filter((caller) => caller.guest !== guest);
    this.#serve();
  }

  push(push: Push): void {
    const { pub, unsubscribe } = push;
    try {
      this.#tell({ ...push, pub: pub && (this.#feed?.add(pub) ?? pub) });
    } catch {
      // A patch that does not fit: what comes after it cannot be read either.
      this.#evict();
      this.#serve();
    }
    if (unsubscribe) {
      this.#feed = undefined;
      this.guests.clear();
      this.#serve();
    }
  }

  /** Answers who waits, one after the other, as far as it can be done without asking the server. */
  #serve(): void {
    for (let caller = this.#callers[0]; !this.#asking; caller = this.#callers[0]) {
      if (!caller) {
        this.#leaveIfEmpty();
        return;
      }
      const { request, guest, id } = caller;
      const asked = this.#asked;
      if (this.#feed && JSON.stringify(asked?.tf) !== JSON.stringify(request.tf)) {
        this.#callers.shift();
        guest.reply({ id, error: { code: 107, message: 'another tab has another filter' } });
      } else if (this.#feed && (!request.join_leave || asked?.join_leave) && this.#covers(request)) {
        this.#callers.shift();
        this.#admit(caller, this.#feed.answer(request));
      } else {
        this.#ask(caller);
      }
    }
  }

  #covers(request: SubscribeRequest): boolean {
    const answer = this.#feed?.answer(request);
    return !request.recover || !answer?.recoverable || answer.recovered === true;
  }

  /** Subscribes, or subscribes anew because a guest needs more than what is known here. */
  #ask({ request }: Caller): void {
    const { requests, delta } = this.house;
    this.#asking = true;
    if (this.#feed) {
      requests.call('unsubscribe', { channel: this.channel }, () => undefined);
    }
    this.#asked = {
      ...request,
      delta: delta?.name,
      join_leave: request.join_leave || this.#asked?.join_leave,
      flag: (request.flag ?? 0) | SubscribeFlag.compaction,
    };
    requests.call('subscribe', this.#asked, (outcome) => this.#answered(request, outcome));
  }

  #answered(request: SubscribeRequest, outcome: SubscribeResult | BobolinkError): void {
    const before = this.#feed?.position;
    const { house } = this;
    // The guest that asked may have gone meanwhile.
    const first = this.#callers[0]?.request === request ? this.#callers.shift() : undefined;
    this.#asking = false;
    this.#feed = undefined;
    if (outcome instanceof BobolinkError) {
      this.#evict();
      first?.guest.reply({ id: first.id, error: wireError(outcome) });
      if (outcome.code === ErrorCode.timeout) {
        // Whether the server subscribed is unknown; only a new connection makes it known.
        house.lost();
      }
    } else {
      const { id } = outcome;
      this.#forgetNumber();
      if (id) {
        house.numbers.set((this.#number = id), this);
      }
      const feed = new Feed(outcome, request, house.codec, outcome.delta ? house.delta?.decoder() : undefined);
      const missed = before && feed.since(before);
      this.#feed = feed;
      if (before && !missed) {
        this.#evict();
      }
      missed?.forEach((pub) => this.#tell({ pub }));
      if (first) {
        this.#admit(first, { ...feed.answer(request), recovered: outcome.recovered });
      }
    }
    this.#serve();
  }

  #admit({ guest, id }: Caller, result: SubscribeResult): void {
    this.guests.add(guest);
    guest.reply({ id, subscribe: result });
  }

  /** All guests come again, and say from where. */
  #evict(): void {
    this.#tell({ unsubscribe: INSUFFICIENT });
    this.guests.clear();
  }

  #tell(push: Push): void {
    this.guests.forEach((guest) => guest.reply({ push: { ...push, id: undefined, channel: this.channel } }));
  }

  #leaveIfEmpty(): void {
    if (!this.guests.size) {
      if (this.#feed) {
        this.house.requests.call('unsubscribe', { channel: this.channel }, () => undefined);
      }
      this.#forgetNumber();
      this.house.empty(this.channel);
    }
  }

  #forgetNumber(): void {
    if (this.#number) {
      this.house.numbers.delete(this.#number);
    }
  }
}
