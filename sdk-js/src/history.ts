/**
 * Pages of a channel's archive, from the newest message back, that join with what a subscription
 * receives: what came live is in no page, and between the two nothing is missing.
 */

import type { Undo } from './emitter.js';
import { BobolinkError, callbackError, ErrorCode } from './errors.js';
import { clientInfo, type Publication } from './publication.js';
import type { Subscription } from './subscription.js';
import type { StreamPosition, WireInfo } from './wire.js';

export interface HistoryMessage<T = unknown> extends Publication<T> {
  /** Unique in the channel, and rising. */
  readonly id: string;
  readonly epoch: string;
  readonly offset: number;
  /** Unix milliseconds. */
  readonly time: number;
  /** The id of the message right before, where there is one in the same epoch. */
  readonly prev?: string;
}

export interface HistoryPage<T = unknown> {
  /** The oldest first. */
  readonly messages: readonly HistoryMessage<T>[];
  /** Whether there is nothing before them. */
  readonly done: boolean;
}

export interface ChannelHistoryOptions {
  /** Where the history service is, such as `https://example.org/history`. */
  url: string;
  /** Asked for a connection token, once and when the service does not take the last one. */
  getToken: () => string | Promise<string>;
  /** Sent too, such as `X-Subscription-Token` for channels that only subscribers may read. */
  headers?: Record<string, string>;
  /** Messages of a page, 50; the service gives 100 at most. */
  limit?: number;
  fetch?: typeof fetch;
  /** Milliseconds between two looks at an archive that is behind, 250. */
  retryDelay?: number;
}

/** As the service writes it. */
interface WireMessage extends Omit<HistoryMessage, 'info' | 'prev'> {
  info?: WireInfo;
  prev: string | null;
  b64data?: string;
}

interface WirePage {
  messages: WireMessage[];
  next_cursor: string | null;
  position: StreamPosition;
}

/** Looks at an archive that lacks what the subscription has seen; then `page` fails for the time being. */
const LOOKS = 20;
const UNAUTHORIZED = 401;

export class ChannelHistory<T = unknown> {
  readonly #closing = new AbortController();
  readonly #undo: Undo[];
  /** What lies behind this comes live. */
  #joint: StreamPosition | undefined;
  /** Leads to the next page; null behind the last one. */
  #cursor: string | null | undefined;
  #token: string | undefined;
  #last: Promise<unknown> = Promise.resolve();

  /** Joins at what the subscription receives from now on, so listen to it before this. */
  constructor(
    readonly subscription: Subscription<T>,
    readonly options: ChannelHistoryOptions,
  ) {
    this.#undo = [
      subscription.on('publication', ({ offset }) => {
        const { position } = subscription;
        if (offset && position) {
          this.#joint ??= { ...position, offset: offset - 1 };
        }
      }),
      subscription.on('subscribed', ({ wasRecovering, recovered }) => {
        if (wasRecovering && !recovered) {
          this.#joint = this.#cursor = undefined;
        }
      }),
      subscription.on('closed', () => this.close()),
    ];
  }

  /**
   * The page before the one that this gave last. When the subscription could not recover what it
   * missed (`recovered: false`), pages begin anew with what is newest then.
   */
  page(): Promise<HistoryPage<T>> {
    const page = this.#last.then(() => this.#page()).catch((cause: unknown) => {
      // What else can fail is the reading of what came.
      throw cause instanceof BobolinkError ? cause : new BobolinkError(ErrorCode.badProtocol, 'bad protocol', false, { cause });
    });
    this.#last = page.catch(() => undefined);
    return page;
  }

  /** Ends what is under way; nothing is left. */
  close(): void {
    this.#undo.forEach((undo) => undo());
    this.#closing.abort(new BobolinkError(ErrorCode.closed, 'closed'));
  }

  async #page(): Promise<HistoryPage<T>> {
    for (let look = 0; look < LOOKS; look += 1) {
      if (!this.#joint) {
        await this.subscription.ready();
        this.#joint ??= this.subscription.position;
      }
      const [joint, cursor] = [this.#joint, this.#cursor];
      if (!joint) {
        throw new BobolinkError(ErrorCode.badData, 'the channel has no positions');
      }
      if (cursor === null) {
        return { messages: [], done: true };
      }
      const { messages, next_cursor: next, position } = await this.#fetch(joint, cursor);
      if (joint !== this.#joint) {
        continue;
      }
      if (cursor ?? (position.epoch === joint.epoch ? position.offset >= joint.offset : !joint.offset)) {
        this.#cursor = next;
        const isLive = ({ epoch, offset }: WireMessage): boolean => epoch === joint.epoch && offset > joint.offset;
        return { messages: messages.filter((message) => !isLive(message)).map(read<T>).reverse(), done: !next };
      }
      await this.#pause();
    }
    throw new BobolinkError(ErrorCode.timeout, 'the archive is behind', true);
  }

  async #fetch({ epoch, offset }: StreamPosition, cursor = ''): Promise<WirePage> {
    const { url, limit = 50, getToken, headers, fetch = globalThis.fetch } = this.options;
    const { signal } = this.#closing;
    const query = new URLSearchParams({
      limit: String(limit),
      ...(offset ? { epoch, before_offset: String(offset + 1) } : undefined),
      ...(cursor ? { cursor } : undefined),
    });
    const path = `${url}/v1/channels/${encodeURIComponent(this.subscription.channel)}/messages?${String(query)}`;
    const lost = (cause: unknown): never => {
      signal.throwIfAborted();
      throw new BobolinkError(ErrorCode.connectionLost, 'connection lost', true, { cause });
    };
    for (let fresh = !this.#token; ; fresh = true) {
      try {
        this.#token = fresh ? await getToken() : this.#token;
      } catch (cause) {
        throw callbackError(ErrorCode.credentials, cause);
      }
      signal.throwIfAborted();
      const request = { headers: { ...headers, Authorization: `Bearer ${this.#token ?? ''}` }, signal };
      const response = await fetch(path, request).catch(lost);
      if (response.ok) {
        return JSON.parse(await response.text().catch(lost)) as WirePage;
      }
      if (fresh || response.status !== UNAUTHORIZED) {
        throw await failure(response);
      }
    }
  }

  #pause(): Promise<void> {
    const { signal } = this.#closing;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(resolve, this.options.retryDelay ?? 250);
      signal.onabort = () => {
        clearTimeout(timer);
        reject(signal.reason as Error);
      };
    });
  }
}

function read<T>({ b64data, info, prev, ...message }: WireMessage): HistoryMessage<T> {
  const data = b64data === undefined ? message.data : Uint8Array.from(atob(b64data), (byte) => byte.charCodeAt(0));
  return { ...message, data: data as T, info: info && clientInfo(info), prev: prev ?? undefined };
}

async function failure(response: Response): Promise<BobolinkError> {
  const { status, statusText } = response;
  const { detail = statusText } = (await response.json().catch(() => ({}))) as { detail?: string };
  return new BobolinkError(status, detail, status >= 500 || status === 429);
}
