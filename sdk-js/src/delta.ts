/**
 * Publications as patches, in the format of Fossil: give `fossil` to a subscription as its `delta`.
 *
 * A patch is the length of what it makes, then copies of pieces of its predecessor and new text, then
 * a checksum. Numbers are in base 64; lengths and places count bytes of UTF-8.
 */

import type { DeltaCodec } from './publication.js';

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

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~';
const VALUES = new Map(Array.from(DIGITS, (digit, value) => [digit.charCodeAt(0), value]));
/** Bytes. Far above any message; a small patch can copy so often that what it makes fills the memory. */
const LONGEST = 1 << 26;

/** What the patch makes of `base`. Throws if the patch is malformed or was made for something else. */
export function applyPatch(base: Uint8Array, patch: Uint8Array): Uint8Array {
  const reader = new Reader(patch);
  const length = reader.number();
  reader.expect('\n');
  if (length > LONGEST) {
    throw new Error('a patch makes more than any message may hold');
  }
  const pieces: Uint8Array[] = [];
  for (let made = 0; ; ) {
    const count = reader.number();
    const kind = reader.character();
    if (kind === ';') {
      return checked(joined(pieces, made), length, count);
    }
    const piece = kind === '@' ? reader.copy(base, count) : kind === ':' ? reader.take(count) : undefined;
    if (!piece) {
      throw new Error(`a patch has no command "${kind}"`);
    }
    made += count;
    if (made > length) {
      throw new Error('a patch makes more than it says');
    }
    pieces.push(piece);
  }
}

class Reader {
  #at = 0;

  constructor(readonly bytes: Uint8Array) {}

  /** A number in base 64, at least one digit. */
  number(): number {
    const start = this.#at;
    let value = 0;
    for (let digit = this.#digit(); digit !== undefined; digit = this.#digit()) {
      value = value * 64 + digit;
      this.#at += 1;
      if (value >= 2 ** 32) {
        throw new Error('a patch has a number that is too large');
      }
    }
    if (this.#at === start) {
      throw new Error('a patch lacks a number');
    }
    return value;
  }

  character(): string {
    return String.fromCharCode(this.bytes[this.#at++] ?? 0);
  }

  expect(character: string): void {
    if (this.character() !== character) {
      throw new Error(`a patch lacks a ${JSON.stringify(character)}`);
    }
  }

  take(count: number): Uint8Array {
    const piece = slice(this.bytes, this.#at, count);
    this.#at += count;
    return piece;
  }

  copy(base: Uint8Array, count: number): Uint8Array {
    const from = this.number();
    this.expect(',');
    return slice(base, from, count);
  }

  #digit(): number | undefined {
    return VALUES.get(this.bytes[this.#at] ?? 0);
  }
}

function slice(bytes: Uint8Array, from: number, count: number): Uint8Array {
  if (from + count > bytes.length) {
    throw new Error('a patch refers to what is not there');
  }
  return bytes.subarray(from, from + count);
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

function checked(made: Uint8Array, length: number, sum: number): Uint8Array {
  if (made.length !== length) {
    throw new Error('a patch makes less than it says');
  }
  if (checksum(made) !== sum) {
    throw new Error('the checksum of a patch does not fit: it was made for something else');
  }
  return made;
}

/** The sum of the bytes read as big-endian 32-bit words, the last one filled up with zeros. */
export function checksum(bytes: Uint8Array): number {
  let sum = 0;
  bytes.forEach((byte, index) => {
    sum = (sum + (byte << (24 - 8 * (index % 4)))) >>> 0;
  });
  return sum;
}
