/** Messages to bytes and back, by their schema. */

import type { Field, Kind, Message } from './schema.js';

/** Plain objects, as they would stand in JSON. */
export type Plain = Record<string, unknown>;

const VARINT = 0;
const FIXED64 = 1;
const BYTES = 2;
const FIXED32 = 5;
/** Bytes of the longest varint. */
const LONGEST = 10;

export function encode(message: Message, value: Plain): Uint8Array {
  const parts: Uint8Array[] = [];
  for (const [number, name, kind] of message.fields) {
    const field = value[name];
    if (typeof kind !== 'object') {
      put(parts, number, kind, field);
    } else if ('many' in kind) {
      (field as unknown[] | undefined)?.forEach((item) => put(parts, number, kind.many, item, true));
    } else if ('map' in kind) {
      for (const [key, item] of Object.entries((field as Plain | undefined) ?? {})) {
        put(parts, number, 'raw', joined([...piece(1, 'text', key), ...piece(2, kind.map, item)]), true);
      }
    } else {
      put(parts, number, kind, field);
    }
  }
  return joined(parts);
}

export function decode(message: Message, bytes: Uint8Array): Plain {
  const reader = new Reader(bytes);
  const value: Plain = { ...message.absent };
  while (!reader.done) {
    const tag = reader.varint();
    const field = message.byNumber.get(Math.floor(tag / 8));
    if (field) {
      take(reader, value, field, tag % 8);
    } else {
      reader.skip(tag % 8);
    }
  }
  return value;
}

/** Messages with their length before each. */
export function split(frame: Uint8Array): Uint8Array[] {
  const reader = new Reader(frame);
  const messages: Uint8Array[] = [];
  while (!reader.done) {
    messages.push(reader.bytes());
  }
  return messages;
}

export function withLength(message: Uint8Array): Uint8Array {
  return joined([varint(message.length), message]);
}

export function joined(parts: Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** The value of bytes of JSON; what is none stays bytes, and nothing is undefined. */
export function parsed(bytes: Uint8Array): unknown {
  try {
    return bytes.length > 0 ? (JSON.parse(new TextDecoder().decode(bytes)) as unknown) : undefined;
  } catch {
    return bytes;
  }
}

/** Appends a field, unless it has the value that an absent one has. */
function put(parts: Uint8Array[], number: number, kind: Kind, value: unknown, always = false): void {
  const isAbsent = value === undefined || (kind !== 'json' && (value === 0 || value === '' || value === false));
  if (always || !isAbsent) {
    parts.push(...piece(number, kind, value));
  }
}

function piece(number: number, kind: Kind, value: unknown): Uint8Array[] {
  if (kind === 'number' || kind === 'boolean') {
    return [varint(number * 8 + VARINT), varint(Number(value))];
  }
  const bytes = bytesOf(kind, value);
  return bytes ? [varint(number * 8 + BYTES), varint(bytes.length), bytes] : [];
}

function bytesOf(kind: Exclude<Kind, 'number' | 'boolean'>, value: unknown): Uint8Array | undefined {
  if (value instanceof Uint8Array) {
    return value;
  }
  if (typeof kind === 'object') {
    return encode(kind as Message, value as Plain);
  }
  // `undefined` for what JSON has no word for, such as a function.
  const text = kind === 'text' ? String(value) : (JSON.stringify(value) as string | undefined);
  return text === undefined ? undefined : new TextEncoder().encode(text);
}

/** Negative numbers as 64-bit two's complement. */
function varint(value: number): Uint8Array {
  const digits: number[] = [];
  if (value < 0) {
    let rest = BigInt.asUintN(64, BigInt(value));
    for (; rest > 127n; rest >>= 7n) {
      digits.push(Number(rest & 127n) + 128);
    }
    digits.push(Number(rest));
  } else {
    let rest = value;
    for (; rest > 127; rest = Math.floor(rest / 128)) {
      digits.push((rest % 128) + 128);
    }
    digits.push(rest);
  }
  return Uint8Array.from(digits);
}

function take(reader: Reader, value: Plain, [, name, kind]: Field, wire: number): void {
  if (kind === 'number' || kind === 'boolean') {
    expectWire(wire, VARINT, name);
    const number = reader.varint();
    value[name] = kind === 'number' ? number : number !== 0;
    return;
  }
  expectWire(wire, BYTES, name);
  const bytes = reader.bytes();
  if (typeof kind === 'string') {
    value[name] = read(kind, bytes);
  } else if ('many' in kind) {
    const list = (value[name] ??= []) as unknown[];
    list.push(read(kind.many, bytes));
  } else if ('map' in kind) {
    const { key = '', item } = entry(kind.map, bytes);
    // A name from outside must not be taken for the prototype.
    Object.defineProperty((value[name] ??= {}), key, { value: item, enumerable: true, writable: true, configurable: true });
  } else {
    value[name] = decode(kind, bytes);
  }
}

function entry(kind: Kind, bytes: Uint8Array): { key?: string; item: unknown } {
  const reader = new Reader(bytes);
  const found: { key?: string; item: unknown } = { item: read(kind, new Uint8Array()) };
  while (!reader.done) {
    const tag = reader.varint();
    if (tag === 8 + BYTES) {
      found.key = read('text', reader.bytes()) as string;
    } else if (tag === 16 + BYTES) {
      found.item = read(kind, reader.bytes());
    } else {
      reader.skip(tag % 8);
    }
  }
  return found;
}

function read(kind: Kind, bytes: Uint8Array): unknown {
  switch (kind) {
    case 'text':
      return new TextDecoder().decode(bytes);
    case 'json':
      return parsed(bytes);
    case 'raw':
      return new Payload(bytes);
    default:
      return decode(kind as Message, bytes);
  }
}

/** Bytes that are legible in a log. */
class Payload extends Uint8Array {
  static get [Symbol.species](): Uint8ArrayConstructor {
    return Uint8Array;
  }

  toJSON(): string {
    return new TextDecoder().decode(this);
  }
}

function expectWire(wire: number, expected: number, name: string): void {
  if (wire !== expected) {
    throw new Error(`"${name}" has another type on the wire`);
  }
}

class Reader {
  #at = 0;

  constructor(readonly buffer: Uint8Array) {}

  get done(): boolean {
    return this.#at >= this.buffer.length;
  }

  /** As a number: exact up to 2^53, which no offset reaches. */
  varint(): number {
    let value = 0;
    for (let index = 0; index < LONGEST; index += 1) {
      const byte = this.buffer[this.#at++];
      if (byte === undefined) {
        throw new Error('a message ends in the middle of a number');
      }
      value += (byte & 127) * 128 ** index;
      if (byte < 128) {
        return value;
      }
    }
    throw new Error('a number is longer than any');
  }

  bytes(): Uint8Array {
    return this.#slice(this.varint());
  }

  skip(wire: number): void {
    switch (wire) {
      case VARINT:
        this.varint();
        return;
      case FIXED64:
        this.#slice(8);
        return;
      case BYTES:
        this.bytes();
        return;
      case FIXED32:
        this.#slice(4);
        return;
      default:
        throw new Error(`there is no wire type ${wire}`);
    }
  }

  #slice(length: number): Uint8Array {
    const end = this.#at + length;
    if (end > this.buffer.length) {
      throw new Error('a message ends before what it holds');
    }
    const bytes = this.buffer.subarray(this.#at, end);
    this.#at = end;
    return bytes;
  }
}
