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
  assert.deepEqual(timeline.range, { oldest: 1, newest: 2 });
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

test('it does not grow without end, and the newest stay', () => {
  const timeline = new Timeline(10);
  timeline.follow('a');
  for (let offset = 1; offset <= 25; offset += 1) {
    timeline.add(offset, 'ada', message(`m${offset}`));
  }
  assert.deepEqual(timeline.range, { oldest: 16, newest: 25 });
  assert.ok(!timeline.has('m1'));
  assert.ok(timeline.has('m25'));
});
