import assert from 'node:assert/strict';
import { test } from 'node:test';

import type { Message } from '../src/message.js';
import { Timeline } from '../src/timeline.js';

const message = (id: string): Message => ({ id, text: id, at: 0 });

function texts(timeline: Timeline): string[] {
  return timeline.entries.map((entry) => entry.message.text);
}

test('messages stand in the order of the stream, however they come', () => {
  // A small generator of its own, so that a failure can be repeated.
  let seed = 1;
  const random = (below: number): number => (seed = (seed * 48_271) % 2_147_483_647) % below;
  for (let round = 0; round < 200; round += 1) {
    const timeline = new Timeline();
    timeline.follow('a');
    const offsets = Array.from({ length: 30 }, (_, index) => index + 1);
    // Each comes up to three times: live, recovered, from history.
    const arrivals = offsets.flatMap((offset) => Array.from({ length: 1 + random(3) }, () => offset));
    arrivals.sort(() => random(3) - 1);
    arrivals.forEach((offset) => timeline.add(offset, 'ada', message(`m${offset}`)));
    assert.deepEqual(texts(timeline), offsets.map((offset) => `m${offset}`));
  }
});

test('a message that was sent twice is shown once, and leaves no gap', () => {
  const timeline = new Timeline();
  timeline.follow('a');
  assert.ok(timeline.add(1, 'ada', message('x')));
  assert.ok(!timeline.add(2, 'ada', message('x')));
  assert.ok(timeline.add(3, 'ada', message('y')));
  assert.deepEqual(texts(timeline), ['x', 'y']);
  const [x, y] = timeline.entries;
  assert.equal(timeline.gap(x!, y!), 0);
});

test('messages without an id are told apart by their place', () => {
  const timeline = new Timeline();
  timeline.follow('a');
  assert.ok(timeline.add(1, '', message('')));
  assert.ok(timeline.add(2, '', message('')));
  assert.ok(!timeline.add(2, '', message('')));
  assert.equal(new Set(timeline.entries.map(({ key }) => key)).size, 2);
});

test('a gap is told', () => {
  const timeline = new Timeline();
  timeline.follow('a');
  timeline.add(1, 'ada', message('x'));
  timeline.add(5, 'ada', message('y'));
  const [x, y] = timeline.entries;
  assert.equal(timeline.gap(x!, y!), 3);
});

test('a new epoch begins after what was there, whatever its offsets', () => {
  const timeline = new Timeline();
  assert.ok(!timeline.follow('a'));
  timeline.add(7, 'ada', message('before'));
  assert.ok(timeline.follow('a'));
  assert.ok(!timeline.follow('b'));
  timeline.add(2, 'ada', message('later'));
  timeline.add(1, 'ada', message('after'));
  assert.deepEqual(texts(timeline), ['before', 'after', 'later']);
  assert.equal(timeline.newest, 2);
});

test('what was missed begins behind the last that was seen, and only then', () => {
  const timeline = new Timeline();
  timeline.follow('a');
  [1, 2, 3, 4].forEach((offset) => timeline.add(offset, 'ada', message(`m${offset}`)));
  const [, second, third, fourth] = timeline.entries;
  timeline.missed(2, 3);
  assert.ok(timeline.beginsMissed(second!, third!));
  assert.ok(!timeline.beginsMissed(third!, fourth!));
  timeline.missed(3, 3);
  assert.ok(!timeline.beginsMissed(third!, fourth!), 'nothing was missed');
});

test('a new stream has nothing new before its first message', () => {
  const timeline = new Timeline();
  assert.equal(timeline.newest, undefined);
  timeline.follow('a');
  timeline.add(7, 'ada', message('before'));
  timeline.follow('b');
  assert.equal(timeline.newest, undefined);
});

const placed = (epoch: string, offset: number): { epoch: string; offset: number; author: string; message: Message } => ({
  epoch,
  offset,
  author: 'ada',
  message: message(`${epoch}${offset}`),
});

test('pages lead back through the streams of the room, whatever is live meanwhile', () => {
  const timeline = new Timeline();
  timeline.follow('c');
  timeline.add(2, 'ada', message('c2'));
  timeline.addEarlier([placed('b', 9), placed('c', 1)]);
  timeline.add(3, 'ada', message('c3'));
  timeline.addEarlier([placed('a', 5), placed('b', 7), placed('b', 8)]);
  timeline.addEarlier([placed('a', 3), placed('a', 4)]);
  assert.deepEqual(texts(timeline), ['a3', 'a4', 'a5', 'b7', 'b8', 'b9', 'c1', 'c2', 'c3']);
});

test('a page that overlaps with what is there adds what is missing', () => {
  const timeline = new Timeline();
  timeline.follow('a');
  [3, 5].forEach((offset) => timeline.add(offset, 'ada', message(`a${offset}`)));
  timeline.addEarlier([1, 2, 3, 4, 5].map((offset) => placed('a', offset)));
  assert.deepEqual(texts(timeline), ['a1', 'a2', 'a3', 'a4', 'a5']);
});

test('it does not grow without end: the newest stay, and of a page what has room', () => {
  const timeline = new Timeline(10);
  timeline.follow('a');
  for (let offset = 11; offset <= 25; offset += 1) {
    timeline.add(offset, 'ada', message(`a${offset}`));
  }
  assert.deepEqual(texts(timeline), numbered(16, 25));
  assert.ok(!timeline.has('a11') && timeline.has('a25') && timeline.full);
  const roomy = new Timeline(10);
  roomy.follow('a');
  roomy.add(9, 'ada', message('a9'));
  roomy.addEarlier(Array.from({ length: 8 }, (_, index) => placed('a', index + 1)));
  assert.ok(!roomy.full);
  roomy.follow('b');
  roomy.addEarlier([placed('0', 1), placed('0', 2)]);
  assert.deepEqual(texts(roomy), ['02', ...numbered(1, 9)]);
});

test('what is cleared is forgotten', () => {
  const timeline = new Timeline();
  timeline.follow('a');
  timeline.add(1, 'ada', message('a1'));
  timeline.clear();
  assert.deepEqual([timeline.entries.length, timeline.newest], [0, undefined]);
  assert.ok(timeline.add(1, 'ada', message('a1')));
});

function numbered(first: number, last: number): string[] {
  return Array.from({ length: last - first + 1 }, (_, index) => `a${first + index}`);
}
