/** Patches in Fossil's format, good ones and bad ones. */

import { describe, expect, test } from 'vitest';

import { applyPatch, fossil, serverSidePatches } from '../src/delta.js';
import { base64, patchBetween } from './support/patch.js';
import { Stage } from './support/wire.js';

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
    ['is empty', ''],
    ['has no length', '\n1;'],
    ['has no line end', '3'],
    ['ends before its checksum', good.slice(0, -1)],
    ['copies what is not there', '4\n4@9,0;'],
    ['writes more than it holds', '4\n4:ab'],
    ['makes more than it says', '2\n3@0,0;'],
    ['makes less than it says', '9\n3@0,0;'],
    ['has another command', '3\n3?0,0;'],
    ['has a number without end', `${'~'.repeat(9)}\n0;`],
    ['makes more than any message holds', `${base64(2 ** 27)}\n0;`],
    ['has numbers beyond all bounds', `3\n3@${'~'.repeat(400)},0;`],
  ])('%s', (_, patch) => {
    expect(() => apply('abcdefgh', patch)).toThrow('does not fit');
  });

  test('was made for another text', () => {
    expect(() => apply('abcdefgH', good)).toThrow('does not fit');
  });

  test('claims much has made nothing by then', () => {
    const before = process.memoryUsage().arrayBuffers;
    expect(() => apply('', `${base64(2 ** 26)}\n0;`)).toThrow('does not fit');
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(1_000_000);
  });
});

test('a decoder goes on from what it made last', () => {
  const decode = fossil.decoder();
  expect(decode('one ü', false)).toBe('one ü');
  expect(decode(patchBetween('one ü', 'two ü'), true)).toBe('two ü');
  expect(decode(patchBetween('two ü', 'three'), true)).toBe('three');
});

describe('subscriptions that the server makes', () => {
  const [one, two, three] = ['{"n":"one"}', '{"n":"two"}', '{"n":"three"}'] as const;
  const stream = { recoverable: true, positioned: true, epoch: 'e', offset: 1, delta: true };

  function data(stage: Stage): unknown[] {
    return stage.events.flatMap(([name, event]) => (name === 'publication' ? [(event as { data: unknown }).data] : []));
  }

  async function again(stage: Stage): Promise<void> {
    await stage.clock.advance(500);
    await stage.line.open();
  }

  test('come as patches where they are named, which go on after a recovery', async () => {
    const stage = await new Stage({ codec: serverSidePatches(['a']) }).connected({ subs: { a: stream, b: {} } });
    expect(stage.line.last('connect').request.subs).toEqual({ a: { delta: 'fossil' } });
    await stage.line.reply(
      { push: { channel: 'a', pub: { data: one, offset: 2 } } },
      { push: { channel: 'b', pub: { data: one } } },
      { push: { channel: 'a', pub: { data: patchBetween(one, two), delta: true, offset: 3 } } },
    );
    await stage.line.close(1006);
    await again(stage);
    expect(stage.line.last('connect').request.subs).toEqual({ a: { recover: true, epoch: 'e', offset: 3, delta: 'fossil' } });
    const recovered = { ...stream, offset: 3, was_recovering: true, recovered: true };
    await stage.line.reply({ id: stage.line.last('connect').id, connect: { client: 'c', subs: { a: recovered } } });
    await stage.line.reply({ push: { channel: 'a', pub: { data: patchBetween(two, three), delta: true, offset: 4 } } });
    // The data of "b" is no patch, but a string.
    expect(data(stage)).toEqual([{ n: 'one' }, one, { n: 'two' }, { n: 'three' }]);
  });

  test('bring what was missed as patches', async () => {
    const stage = new Stage({ codec: serverSidePatches(['a']) });
    const publications = [{ data: one, offset: 2 }, { data: patchBetween(one, two), delta: true, offset: 3 }];
    await stage.connected({ subs: { a: { ...stream, was_recovering: true, recovered: true, publications } } });
    expect(data(stage)).toEqual([{ n: 'one' }, { n: 'two' }]);
  });

  test('come whole from a server that has no patches', async () => {
    const stage = await new Stage({ codec: serverSidePatches(['a']) }).connected({ subs: { a: { ...stream, delta: false } } });
    await stage.line.reply({ push: { channel: 'a', pub: { data: 'text', offset: 2 } } });
    await stage.line.reply({ push: { channel: 'c', subscribe: {} } }, { push: { channel: 'c', pub: { data: one } } });
    expect(data(stage)).toEqual(['text', one]);
  });

  test('recover from the last good one when a patch does not fit, whatever came behind it', async () => {
    const stage = await new Stage({ codec: serverSidePatches(['a']) }).connected({ subs: { a: stream } });
    await stage.line.reply(
      { push: { channel: 'a', pub: { data: one, offset: 2 } } },
      { push: { channel: 'a', pub: { data: 'bad', delta: true, offset: 3 } } },
      { push: { channel: 'a', pub: { data: three, offset: 4 } } },
    );
    await again(stage);
    expect(stage.line.last('connect').request.subs).toMatchObject({ a: { recover: true, offset: 2 } });
    expect([data(stage), stage.states]).toEqual([[{ n: 'one' }], ['connecting', 'connected', 'connecting']]);
  });
});
