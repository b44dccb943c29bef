/** The Protobuf codec by itself: known bytes, all fields, and bytes that are none. */

import { describe, expect, test } from 'vitest';

import { fossil } from '../src/delta.js';
import { protobuf, protobufBytes } from '../src/protobuf.js';
import { command, reply } from '../src/protobuf/schema.js';
import { decode, encode, withLength, type Plain } from '../src/protobuf/wire.js';
import type { Command } from '../src/wire.js';

function hex(bytes: unknown): string {
  return Buffer.from(bytes as Uint8Array).toString('hex');
}

function bytes(text: string): Uint8Array {
  return new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'));
}

/** One reply in a frame. */
function framed(value: Plain): Uint8Array {
  return withLength(encode(reply, value));
}

describe('commands', () => {
  test('are the bytes that Protobuf says', () => {
    // Worked out by hand: tag, length, value.
    expect(hex(protobuf.encode({ id: 1, connect: { token: 'ab' } }))).toBe('08' + '0801' + '2204' + '0a026162');
    expect(hex(protobuf.encode({ id: 300, publish: { channel: 'c', data: { n: 1 }, idempotency_key: 'k' } }))).toBe(
      '15' + '08ac02' + '3a10' + '0a0163' + '12077b226e223a317d' + 'c23e016b',
    );
    expect(hex(protobuf.encode({}))).toBe('00');
  });

  test('leave out what is not there, and keep what is empty', () => {
    expect(hex(protobuf.encode({ id: 1, send: { data: null } }))).toBe('0a' + '0801' + '6206' + '0a046e756c6c');
    expect(hex(protobuf.encode({ id: 1, history: { channel: '', limit: 0, reverse: false } }))).toBe('04' + '0801' + '5200');
    expect(hex(protobuf.encode({ id: 1, rpc: { method: undefined, data: (): void => undefined } }))).toBe('04' + '0801' + '6a00');
  });

  test('have all of their fields', () => {
    const tf = { op: 'and' as const, nodes: [{ key: 'k', cmp: 'in' as const, vals: ['a', 'b'] }, { op: 'not' as const, nodes: [] }] };
    const subscribe = { channel: 'c', token: 't', data: [1], recover: true, offset: 2 ** 40, epoch: 'e', positioned: true };
    const commands: Command[] = [
      { id: 1, connect: { token: 't', data: 'd', name: 'n', version: 'v', headers: { a: 'b' }, subs: { x: { recover: true, offset: 1, epoch: 'e' } } } },
      { id: 2, subscribe: { ...subscribe, recoverable: true, join_leave: true, delta: 'fossil', flag: 3 } },
      { id: 3, history: { channel: 'c', limit: -1, since: { offset: 5, epoch: 'e' }, reverse: true } },
      { id: 4, sub_refresh: { channel: 'c', token: 't' } },
    ];
    for (const one of commands) {
      const read = decode(command, encode(command, one));
      // Numbers below zero are 64 bits of two's complement.
      const expected = JSON.stringify(one).replace('-1', String(2 ** 64));
      expect(JSON.parse(JSON.stringify(read))).toEqual(JSON.parse(expected));
    }
    expect(hex(encode(command, { subscribe: { tf } }))).toContain(hex(Buffer.from('\x1a\x02in\x2a\x01a\x2a\x01b', 'latin1')));
  });

  test('several leave in one frame', () => {
    const one = protobuf.encode({ id: 1, presence: { channel: 'c' } });
    expect(hex(protobuf.join([one, protobuf.encode({})]))).toBe(hex(one) + '00');
  });

  test('what cannot be written throws', () => {
    expect(() => protobuf.encode({ id: 1, publish: { channel: 'c', data: 1n } })).toThrow(TypeError);
  });
});

describe('replies', () => {
  test('are read, several from one frame, with a ping among them', () => {
    const frame = protobuf.join([
      framed({ id: 1, connect: { client: 'c', ping: 25, pong: true, data: { a: 1 }, publish_idempotency_ttl: 86_400 } }),
      bytes('00'),
      framed({ id: 2, error: { code: 103, message: 'permission denied', temporary: true } }),
      framed({ push: { channel: 'x', join: { info: { user: 'u', client: 'c', conn_info: { a: 1 } } } } }),
    ]);
    expect(protobuf.decode(frame)).toEqual([
      { id: 1, connect: { client: 'c', ping: 25, pong: true, data: { a: 1 }, publish_idempotency_ttl: 86_400 } },
      {},
      { id: 2, error: { code: 103, message: 'permission denied', temporary: true } },
      { push: { channel: 'x', join: { info: { user: 'u', client: 'c', conn_info: { a: 1 } } } } },
    ]);
  });

  test('what JSON always has is there', () => {
    const frame = framed({ id: 1, presence: { presence: { c: {} } } });
    expect(protobuf.decode(frame)).toEqual([{ id: 1, presence: { presence: { c: { user: '', client: '' } } } }]);
  });

  test('fields that are not known are passed over, whatever their type', () => {
    const unknown = bytes('d03e ffffffffffffffffff01 d93e 0102030405060708 e23e 03616263 ed3e 01020304');
    const frame = withLength(Uint8Array.from([...unknown, ...encode(reply, { id: 7 })]));
    expect(protobuf.decode(frame)).toEqual([{ id: 7 }]);
  });

  test('a channel cannot be named so that it changes objects', () => {
    const frame = framed({ id: 1, presence: { presence: Object.fromEntries([['__proto__', { user: 'evil' }]]) } });
    const [read] = protobuf.decode(frame);
    expect(Object.keys(read!.presence!.presence!)).toEqual(['__proto__']);
    expect(({} as { user?: string }).user).toBeUndefined();
  });

  test.each(['05', '0208', '020aff', '02 0a05', '0108', '0b 08ffffffffffffffffffff', '010b', '02 0a00'])('%s is no reply', (text) => {
    expect(() => protobuf.decode(bytes(text))).toThrow();
  });

  test('no bytes make it do anything but read or throw', () => {
    let seed = 42;
    const random = (below: number): number => (seed = (seed * 1_103_515_245 + 12_345) % 2 ** 31) % below;
    const valid = framed({ id: 1, subscribe: { epoch: 'e', publications: [{ data: Buffer.from('1'), tags: { a: 'b' } }] } });
    for (let round = 0; round < 3_000; round += 1) {
      const frame = Uint8Array.from(valid, (byte) => (random(10) === 0 ? random(256) : byte));
      try {
        expect(Array.isArray(protobuf.decode(frame))).toBe(true);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }
  });

  test('text is no frame', () => {
    expect(() => protobuf.decode('{}')).toThrow();
  });
});

describe('data of publications', () => {
  const raw = (text: string): Uint8Array => new TextEncoder().encode(text);

  test('is JSON, bytes where it is none, or always bytes', () => {
    expect(protobuf.payload(raw('{"a":[1]}'))).toEqual({ a: [1] });
    expect(protobuf.payload(Uint8Array.of(0, 1))).toEqual(Uint8Array.of(0, 1));
    expect(protobuf.payload(undefined)).toBeUndefined();
    expect(protobufBytes.payload(raw('1'))).toEqual(raw('1'));
    expect(protobufBytes.payload(undefined)).toEqual(new Uint8Array());
  });

  test('is made whole from patches', () => {
    const decoder = fossil.decoder();
    expect(protobuf.payload(raw('"abc"'), false, decoder)).toBe('abc');
    expect(() => protobuf.payload(raw('nonsense'), true, decoder)).toThrow();
  });

  test('is legible in a log', () => {
    const [read] = protobuf.decode(framed({ push: { channel: 'x', pub: { data: raw('{"a":1}') } } }));
    expect(JSON.stringify(read)).toBe('{"push":{"channel":"x","pub":{"data":"{\\"a\\":1}"}}}');
  });
});
