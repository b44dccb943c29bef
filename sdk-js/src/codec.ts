/** How commands and replies stand on the wire. */

import type { DeltaDecoder } from './publication.js';
import type { Command, Reply } from './wire.js';

/** What a transport carries: text, or bytes where the codec says so. */
export type Frame = string | Uint8Array;

export interface Codec {
  /** The WebSocket subprotocol that asks the server for it; none for JSON. */
  readonly subprotocol?: string;
  /** Throws if there is something in the command that cannot be written. */
  encode(command: Command): Frame;
  /** One frame with all of these commands. */
  join(commands: Frame[]): Frame;
  /** Throws if the frame is not one of the protocol. */
  decode(frame: Frame): Reply[];
  /** The data of a publication, as it came or as what `decoder` makes of it. */
  payload(data: unknown, patch?: boolean, decoder?: DeltaDecoder): unknown;
}

export const json: Codec = {
  encode: (command) => JSON.stringify(command),
  join: (commands) => commands.join('\n'),
  decode: (frame) => (frame as string).split('\n').flatMap((line) => (line ? (JSON.parse(line) as Reply) : [])),
  payload: (data, patch, decoder) => (decoder ? (JSON.parse(decoder(data as string, patch)) as unknown) : data),
};
