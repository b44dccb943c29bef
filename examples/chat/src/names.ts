/** Names of rooms: what may be one, and how it stands in channels, in the address and in memory. Pure. */

/** Marks are part of letters, as in Hindi and Thai. */
const NAME = /^[\p{L}\p{N}][\p{L}\p{M}\p{N}_-]{0,39}$/u;
/** Of a channel, which the server takes up to 255 of, less the namespace. */
const MAX_ENCODED = 240;

/** Said where something typed is no name. */
export const NAME_RULE = 'A name has letters, digits, - and _, and at most 40 of them (fewer in some scripts).';

/** What was typed or addressed as the name of a room, if it is one. */
export function roomName(text: string): string | undefined {
  const name = text.normalize('NFC').trim().toLowerCase().replaceAll(' ', '-');
  return NAME.test(name) && encodeName(name).length <= MAX_ENCODED ? name : undefined;
}

/** In ASCII, which is all that channels may have; plain names stay as they are. */
export function encodeName(name: string): string {
  return encodeURIComponent(name);
}

export function addressOf(name: string): string {
  return `#/${encodeName(name)}`;
}

/** The room that an address names, if there can be one of that name. */
export function roomInAddress(hash: string): string | undefined {
  try {
    return roomName(decodeURIComponent(/^#\/([^/]+)$/.exec(hash)?.[1] ?? ''));
  } catch {
    // A stray percent sign.
    return undefined;
  }
}

export function writeRooms(names: Iterable<string>): string {
  return JSON.stringify([...names]);
}

/** The names that were remembered; earlier versions of this page wrote them with spaces between. */
export function readRooms(text: string | undefined): string[] {
  let names: unknown;
  try {
    names = JSON.parse(text ?? '[]');
  } catch {
    names = text?.split(' ');
  }
  return Array.isArray(names) ? [...new Set(names.flatMap((name) => roomName(String(name)) ?? []))] : [];
}
