/**
 * Protobuf instead of JSON: give `protobuf` to a client as its `codec`. Data stays what it is, written
 * as JSON inside; with `protobufBytes` it is bytes, whatever they hold.
 */

import type { Codec, Frame } from './codec.js';
import { command, reply } from './protobuf/schema.js';
import { decode, encode, joined, parsed, split, withLength } from './protobuf/wire.js';
import type { Reply } from './wire.js';

export type { Codec, Frame } from './codec.js';

/** Data is any JSON, as over the JSON protocol. What came and is no JSON is a `Uint8Array`. */
export const protobuf: Codec = codec(parsed);

/**
 * Data of publications comes as `Uint8Array`, and data given as `Uint8Array` is sent as it is. Not with
 * tabs, which speak JSON among themselves.
 */
export const protobufBytes: Codec = codec((bytes) => bytes);

const NOTHING = new Uint8Array();

function codec(read: (bytes: Uint8Array) => unknown): Codec {
  return {
    subprotocol: 'centrifuge-protobuf',
    encode: (message) => withLength(encode(command, message)),
    join: (commands) => joined(commands as Uint8Array[]),
    decode: (frame) => split(bytesOf(frame)).map((message) => decode(reply, message) as Reply),
    payload(data, patch, decoder) {
      const bytes = (data ?? NOTHING) as Uint8Array;
      return read(decoder ? decoder(bytes, patch) : bytes);
    },
  };
}

function bytesOf(frame: Frame): Uint8Array {
  if (typeof frame === 'string') {
    throw new Error('text came where bytes were expected');
  }
  return frame;
}
