/** Patches in Fossil's format, good ones and bad ones. */

import { describe, expect, test } from 'vitest';

import { applyPatch, fossil } from '../src/delta.js';
import { base64, patchBetween } from './support/patch.js';

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);
const apply = (base: string, patch: string): string => new TextDecoder().decode(applyPatch(bytes(base), bytes(patch)));

test('a copy and a piece of text make what the format says', () => {
  // Length 5, two bytes from place 1, "x!" and another byte; the sum of "bcx!" and "a\0\0\0" is 0x62637821 + 0x61000000.
  const sum = base64((0x62637821 + 0x61000000) % 2 ** 32);
  expect(apply('abc', `5\n2@1,2:x!1@0,${sum};`)).toBe('bcx!a');
});

test('whatever the texts, the patch between them makes the second of the first', () => {
  const alphabet = ['a', 'b', 'ü', '€', '😀', '\n', '"', '0'];
  let seed = 1;
  const random = (below: number): number => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  const text = (): string => Array.from({ length: random(90) }, () => alphabet[random(alphabet.length)]).join('');
  for (let round = 0; round < 2_000; round += 1) {
    const middle = text();
    const [from, to] = [middle + text(), round % 2 ? middle + text() : text() + middle];
    expect(apply(from, patchBetween(from, to))).toBe(to);
  }
});

describe('a patch is refused that', () => {
  const good = patchBetween('abcdefgh', 'abcxefgh');

  test.each([
    ['is empty', '', 'lacks a number'],
    ['has no length', '\n0;', 'lacks a number'],
    ['has no line end', '3', 'lacks a "\\n"'],
    ['ends before its checksum', good.slice(0, -1), 'no command'],
    ['copies what is not there', `4\n4@9,0;`, 'not there'],
    ['writes more than it holds', `4\n4:ab`, 'not there'],
    ['makes more than it says', `2\n3@0,0;`, 'more than it says'],
    ['makes less than it says', `9\n3@0,0;`, 'less than it says'],
    ['has another command', '3\n3?0,0;', 'no command "?"'],
    ['has a number without end', `${'~'.repeat(9)}\n0;`, 'too large'],
    ['makes more than any message holds', `${base64(2 ** 27)}\n0;`, 'more than any message'],
  ])('%s', (_, patch, message) => {
    expect(() => apply('abcdefgh', patch)).toThrow(message);
  });

  test('was made for another text', () => {
    expect(() => apply('abcdefgH', good)).toThrow('checksum');
  });

  test('claims much has made nothing by then', () => {
    const before = process.memoryUsage().arrayBuffers;
    expect(() => apply('', `${base64(2 ** 26)}\n0;`)).toThrow('less than it says');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000);
  });
});

test('a decoder goes on from what it made last', () => {
  const decode = fossil.decoder();
  expect(decode('one ü', false)).toBe('one ü');
  expect(decode(patchBetween('one ü', 'two ü'), true)).toBe('two ü');
  expect(decode(patchBetween('two ü', 'three'), true)).toBe('three');
});
