/**
 * Publications as patches, in the format of Fossil: give `fossil` to a subscription as its `delta`, and
 * `serverSidePatches` to a client whose server subscribes it.
 *
 * A patch is the length of what it makes, then copies of pieces of its predecessor and new text, then
 * a checksum. Numbers are in base 64; lengths and places count bytes of UTF-8.
 */

import { json, type Codec } from './codec.js';
import type { DeltaCodec, DeltaDecoder } from './publication.js';
import type { Command, Reply, SubscribeResult, WirePublication } from './wire.js';

export type { Codec } from './codec.js';
export type { DeltaCodec, DeltaDecoder } from './publication.js';

export const fossil: DeltaCodec = {
  name: 'fossil',
  decoder() {
    let base: Uint8Array = new Uint8Array();
    return <Data extends string | Uint8Array>(data: Data, patch?: boolean) => {
      const bytes: Uint8Array = typeof data === 'string' ? new TextEncoder().encode(data) : data;
      base = patch ? applyPatch(base, bytes) : bytes;
      return patch ? ((typeof data === 'string' ? new TextDecoder().decode(base) : base) as Data) : data;
    };
  },
};

/** Ends a connection as servers do that see a gap in a subscription which they made. */
const GAP: Reply = { push: { disconnect: { code: 3010, reason: 'insufficient state' } } };

/**
 * A `codec` for a client, with which subscriptions that the server makes come as patches too: those to
 * these channels from the start, others once they have to recover. It remembers what the next patch is
 * made for, so every client needs its own.
 */
export function serverSidePatches(channels: readonly string[], codec: Codec = json): Codec {
  const decoders = new Map<string, DeltaDecoder>();

  const asking = (command: Command): Command => {
    const { connect } = command;
    if (!connect) {
      return command;
    }
    const subs = { ...connect.subs };
    for (const channel of [...channels, ...Object.keys(subs)]) {
      subs[channel] = { ...subs[channel], delta: fossil.name };
    }
    return { ...command, connect: { ...connect, subs } };
  };
  const makeWhole = (channel: string, publication: WirePublication): void => {
    const decode = decoders.get(channel);
    if (decode) {
      const data = decode(publication.data as string | Uint8Array, publication.delta);
      publication.data = typeof data === 'string' ? JSON.parse(data) : data;
    }
  };
  const subscribed = (channel: string, { delta, publications = [] }: SubscribeResult): void => {
    if (delta) {
      // After a recovery patches go on from what was there before; otherwise the first one comes whole.
      decoders.set(channel, decoders.get(channel) ?? fossil.decoder());
    } else {
      decoders.delete(channel);
    }
    publications.forEach((publication) => makeWhole(channel, publication));
  };
  const read = (reply: Reply): Reply => {
    const { connect, push: { channel = '', pub, subscribe } = {} } = reply;
    try {
      Object.entries(connect?.subs ?? {}).forEach(([name, result]) => subscribed(name, result));
      if (subscribe) {
        subscribed(channel, subscribe);
      } else if (pub) {
        makeWhole(channel, pub);
      }
      return reply;
    } catch {
      return GAP;
    }
  };
  return {
    subprotocol: codec.subprotocol,
    encode: (command) => codec.encode(asking(command)),
    join: (commands) => codec.join(commands),
    decode: (frame) => codec.decode(frame).map(read),
    payload: (data, patch, decoder) => codec.payload(data, patch, decoder),
  };
}

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~';
/** Bytes. Far above any message; a small patch can copy so often that what it makes fills the memory. */
const LONGEST = 1 << 26;

/** What the patch makes of `base`. Throws if the patch is malformed or was made for something else. */
export function applyPatch(base: Uint8Array, patch: Uint8Array): Uint8Array {
  const pieces: Uint8Array[] = [];
  let [at, made] = [0, 0];
  const character = (): string => String.fromCharCode(patch[at] ?? 0);
  /** A number and the character that ends it. */
  const next = (): [value: number, end: string] => {
    let value = 0;
    for (let digit; (digit = DIGITS.indexOf(character())) >= 0; at += 1) {
      value = value * 64 + digit;
    }
    const end = character();
    at += 1;
    return [value, end];
  };
  const take = (bytes: Uint8Array, from: number, count: number): void => {
    pieces.push(bytes.subarray(from, from + count));
    made += count;
    must(from + count <= bytes.length && made <= length);
  };

  const [length, end] = next();
  must(end === '\n' && length <= LONGEST);
  for (;;) {
    const [count, kind] = next();
    if (kind === '@') {
      take(base, next()[0], count);
    } else if (kind === ':') {
      take(patch, at, count);
      at += count;
    } else {
      must(kind === ';' && made === length);
      const whole = joined(pieces, length);
      must(checksum(whole) === count);
      return whole;
    }
  }
}

function must(be: boolean): void {
  if (!be) {
    throw new Error('a patch does not fit');
  }
}

function joined(pieces: Uint8Array[], length: number): Uint8Array {
  const whole = new Uint8Array(length);
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** The sum of the bytes read as big-endian 32-bit words, the last one filled up with zeros. */
function checksum(bytes: Uint8Array): number {
  let sum = 0;
  bytes.forEach((byte, index) => {
    sum = (sum + (byte << (24 - 8 * (index % 4)))) >>> 0;
  });
  return sum;
}
