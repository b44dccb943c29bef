/** Makes patches in Fossil's format: what both ends of a text share is copied, the middle is written. */

const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~';

export function patchBetween(from: string, to: string): string {
  const old = new TextEncoder().encode(from);
  const made = new TextEncoder().encode(to);
  const start = shared(old, made, (bytes, index) => bytes[index]);
  const rest = [old.subarray(start), made.subarray(start)] as const;
  const end = shared(...rest, (bytes, index) => bytes[bytes.length - 1 - index]);
  const middle = made.subarray(start, made.length - end);
  return [
    `${base64(made.length)}\n`,
    start > 0 ? `${base64(start)}@0,` : '',
    middle.length > 0 ? `${base64(middle.length)}:${new TextDecoder().decode(middle)}` : '',
    end > 0 ? `${base64(end)}@${base64(old.length - end)},` : '',
    `${base64(checksum(made))};`,
  ].join('');
}

/** How many bytes agree, without cutting a character: what follows must not be a continuation byte. */
function shared(a: Uint8Array, b: Uint8Array, at: (bytes: Uint8Array, index: number) => number | undefined): number {
  const longest = Math.min(a.length, b.length);
  let count = 0;
  while (count < longest && at(a, count) === at(b, count)) count += 1;
  const cuts = (byte: number | undefined): boolean => byte !== undefined && byte >= 0x80;
  while (count > 0 && (cuts(at(b, count)) || cuts(at(b, count - 1)))) count -= 1;
  return count;
}

/** The sum of big-endian words of 32 bits. */
function checksum(bytes: Uint8Array): number {
  const words = new DataView(Uint8Array.from([...bytes, 0, 0, 0]).buffer);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += 4) sum = (sum + words.getUint32(at)) % 2 ** 32;
  return sum;
}

export function base64(value: number): string {
  return value < 64 ? DIGITS.charAt(value) : base64(Math.floor(value / 64)) + DIGITS.charAt(value % 64);
}
