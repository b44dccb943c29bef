/** Subscriptions that the server makes: by token, by its API, or by personal channels. */

import type { Codec } from './codec.js';
import type { Emitter } from './emitter.js';
import { publication, standingOf, type ClientInfo, type Publication, type Standing } from './publication.js';
import type { StreamPosition, SubscribeResult, WirePublication } from './wire.js';

/** Events that name their channel. */
export interface ServerSideEvents {
  subscribed: { readonly channel: string } & Standing;
  /** The connection is lost; the subscription comes back with it. */
  subscribing: { readonly channel: string };
  unsubscribed: { readonly channel: string; readonly code: number; readonly reason: string };
  publication: Publication;
  join: { readonly channel: string; readonly info: ClientInfo };
  leave: { readonly channel: string; readonly info: ClientInfo };
}

export class ServerSide {
  readonly #positions = new Map<string, StreamPosition | undefined>();

  constructor(
    readonly events: Pick<Emitter<ServerSideEvents>, 'emit'>,
    readonly codec: Codec,
  ) {}

  /** What to recover, for the connect command. */
  get wishes(): Record<string, { recover: boolean } & StreamPosition> | undefined {
    const wishes = [...this.#positions].flatMap(([channel, position]) =>
      position ? [[channel, { recover: true, ...position }] as const] : [],
    );
    return wishes.length > 0 ? Object.fromEntries(wishes) : undefined;
  }

  welcomed(subs: Record<string, SubscribeResult>): void {
    for (const channel of [...this.#positions.keys()].filter((channel) => !(channel in subs))) {
      this.unsubscribed(channel, { reason: 'unsubscribed' });
    }
    Object.entries(subs).forEach(([channel, result]) => this.subscribed(channel, result));
  }

  subscribed(channel: string, result: SubscribeResult): void {
    const standing = standingOf(result);
    this.#positions.set(channel, standing.recoverable ? standing.position : undefined);
    this.events.emit('subscribed', { channel, ...standing });
    result.publications?.forEach((wire) => this.published(channel, wire));
  }

  unsubscribed(channel: string, { code = 0, reason = '' }: { code?: number; reason?: string }): void {
    if (this.#positions.delete(channel)) {
      this.events.emit('unsubscribed', { channel, code, reason });
    }
  }

  published(channel: string, wire: WirePublication): void {
    const position = this.#positions.get(channel);
    if (position && wire.offset) {
      this.#positions.set(channel, { ...position, offset: wire.offset });
    }
    this.events.emit('publication', publication(channel, wire, this.codec.payload(wire.data)));
  }

  lost(): void {
    [...this.#positions.keys()].forEach((channel) => this.events.emit('subscribing', { channel }));
  }

  invalidate(): void {
    [...this.#positions.keys()].forEach((channel) => this.#positions.set(channel, undefined));
  }
}
