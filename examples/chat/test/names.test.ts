import assert from 'node:assert/strict';
import { test } from 'node:test';

import { roomChannel, typingChannel } from '../src/message.js';
import { addressOf, readRooms, roomInAddress, roomName, writeRooms } from '../src/names.js';

test('what is typed becomes a name, or is refused', () => {
  assert.equal(roomName(' Tea Break '), 'tea-break');
  assert.equal(roomName('Ku\u0308che'), 'k\u00fcche');
  assert.equal(roomName('हिन्दी'), 'हिन्दी');
  ['', ' ', '-a', 'a/b', 'a#b', 'a:b', '$a', 'a%', 'a&b', 'x'.repeat(41), '字'.repeat(40)].forEach((text) =>
    assert.equal(roomName(text), undefined, text),
  );
});

test('channels of every name are ASCII and not too long, and those of plain names are as they were', () => {
  assert.equal(roomChannel('tea-break_2'), 'dev-chat:tea-break_2');
  for (const name of ['küche', 'x'.repeat(40), '字'.repeat(24), 'ü'.repeat(40)]) {
    assert.equal(roomName(name), name);
    for (const channel of [roomChannel(name), typingChannel(name)]) {
      assert.match(channel, /^dev-[a-z]+:[\w%-]+$/);
      assert.ok(channel.length <= 255, channel);
    }
  }
});

test('an address names a room, or none', () => {
  for (const name of ['lobby', 'küche', '字']) {
    assert.equal(roomInAddress(addressOf(name)), name);
  }
  assert.equal(roomInAddress('#/my%20room'), 'my-room');
  ['', '#', '#/', '#/%E0%A4%A', '#/%', '#/a/b', '#/%2F', '#elsewhere'].forEach((hash) =>
    assert.equal(roomInAddress(hash), undefined, hash),
  );
});

test('rooms are remembered, also by what earlier versions wrote', () => {
  assert.deepEqual(readRooms(writeRooms(['lobby', 'küche'])), ['lobby', 'küche']);
  assert.deepEqual(readRooms('lobby birds my room'), ['lobby', 'birds', 'my', 'room']);
  assert.deepEqual(readRooms('["lobby","lobby",7,null,"%","a b"]'), ['lobby', '7', 'null', 'a-b']);
  [undefined, '', '7', '{}', 'null', '"lobby"'].forEach((text) => assert.deepEqual(readRooms(text), [], text));
});
