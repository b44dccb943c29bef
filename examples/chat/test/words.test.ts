import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import type { ClientState } from '@bobolink/client';

import { readMessage } from '../src/message.js';
import { People } from '../src/people.js';
import { rows, type Row } from '../src/rows.js';
import { Timeline } from '../src/timeline.js';
import { Typing } from '../src/typing.js';
import { tell } from '../src/view/connection.js';
import { typingText } from '../src/view/people.js';

const NOON = new Date(2026, 4, 10, 12).getTime();

function timelineOf(...messages: [author: string, text: string, at: number][]): Timeline {
  const timeline = new Timeline();
  timeline.follow('a');
  messages.forEach(([author, text, at], index) => timeline.add(index + 1, author, { id: text, text, at }));
  return timeline;
}

function shape(list: Row[]): string[] {
  return list.map((row) =>
    row.kind === 'note' ? `-- ${row.tone}` : `${row.author}: ${row.text}${row.first ? ' <' : ''}${row.last ? ' >' : ''}`,
  );
}

test('messages of one person stand together until somebody speaks, time passes or the day ends', () => {
  const timeline = timelineOf(
    ['ada', '1', NOON],
    ['ada', '2', NOON + 60_000],
    ['ben', '3', NOON + 61_000],
    ['ada', '4', NOON + 62_000],
    ['ada', '5', NOON + 600_000],
    ['ada', '6', NOON + 86_400_000],
  );
  assert.deepEqual(shape(rows(timeline, [], 'ada')), [
    '-- day', 'ada: 1 <', 'ada: 2 >', 'ben: 3 < >', 'ada: 4 < >', 'ada: 5 < >', '-- day', 'ada: 6 < >',
  ]);
});

test('what waits comes last, and what is in the stream already is not shown twice', () => {
  const timeline = timelineOf(['ada', 'said', NOON]);
  const outgoing = ['said', 'waits'].map((text) => ({ message: { id: text, text, at: NOON }, state: 'waiting' as const }));
  const list = rows(timeline, outgoing, 'ada').filter((row) => row.kind === 'message');
  assert.deepEqual(list.map(({ text, state }) => [text, state]), [['said', 'kept'], ['waits', 'waiting']]);
});

test('every row has a key of its own', () => {
  const timeline = timelineOf(['ada', '1', NOON], ['ben', '2', NOON + 86_400_000]);
  timeline.missed(1, 2);
  timeline.follow('b');
  timeline.add(1, 'ada', { id: '', text: 'new', at: 0 });
  timeline.add(4, 'ada', { id: '', text: 'newer', at: 0 });
  const list = rows(timeline, [], 'ada');
  assert.equal(new Set(list.map(({ key }) => key)).size, list.length);
  assert.deepEqual(shape(list).filter((row) => row.startsWith('-- loss')).length, 2, 'another stream, then a gap in it');
});

test('whatever is published in a room can be read', () => {
  assert.deepEqual(readMessage({ id: 'i', text: 't', at: 5 }), { id: 'i', text: 't', at: 5 });
  assert.deepEqual(readMessage({ hello: 1 }), { id: '', text: '{"hello":1}', at: 0 });
  for (const odd of [null, 1, 'x', [], { id: 7, at: 'now' }]) {
    assert.equal(readMessage(odd).text, JSON.stringify(odd));
  }
});

test('one user with three tabs is one person', () => {
  const people = new People();
  people.replace({ 1: { client: '1', user: 'ada' }, 2: { client: '2', user: 'ben' } });
  people.joined({ client: '3', user: 'ada' });
  people.joined({ client: '3', user: 'ada' });
  assert.deepEqual(people.list('ben'), [{ user: 'ben', connections: 1 }, { user: 'ada', connections: 2 }]);
  people.left({ client: '1', user: 'ada' });
  people.left({ client: '3', user: 'ada' });
  assert.deepEqual(people.list('ben').map(({ user }) => user), ['ben']);
});

test('typing is said now and then, and forgotten when it is not said again', (t) => {
  t.after(() => mock.timers.reset());
  mock.timers.enable({ apis: ['setTimeout'] });
  const said: boolean[] = [];
  const typing = new Typing((yes) => said.push(yes), () => undefined);
  [0, 1_000, 2_000, 2_500, 3_000].forEach((now) => typing.typed(now));
  assert.deepEqual(said, [true, true]);
  typing.stopped();
  typing.stopped();
  assert.deepEqual(said, [true, true, false]);
  typing.heard('ada', true);
  mock.timers.tick(3_000);
  typing.heard('ada', true);
  mock.timers.tick(3_999);
  assert.deepEqual(typing.users, ['ada']);
  mock.timers.tick(1);
  assert.deepEqual(typing.users, []);
});

test('who types is told in words', () => {
  assert.deepEqual([[], ['ada'], ['ada', 'ben'], ['a', 'b', 'c']].map(typingText), [
    '', 'ada is typing', 'ada and ben are typing', 'Several people are typing',
  ]);
});

test('the state of the connection is told as it is', () => {
  const outgoing = { waiting: 1 };
  const told = (state: ClientState, offline = false): string[] => {
    const { title, text, state: name } = tell({ state, offline, outgoing });
    return [name, title, text];
  };
  assert.deepEqual(told({ name: 'connected', client: 'x' }), ['online', 'Connected', '']);
  assert.deepEqual(told({ name: 'connecting', code: 0, reason: 'called' }), ['connecting', 'Connecting', '']);
  assert.match(told({ name: 'connecting', code: 1, reason: 'transport closed' })[2]!, /does not answer.*One message waiting/);
  assert.deepEqual(told({ name: 'connecting', code: 5, reason: 'offline' }, true).slice(0, 2), ['offline', 'Offline']);
  assert.match(told({ name: 'disconnected', code: 3500, reason: 'invalid token' })[2]!, /^Invalid token \(3500\)\. One message/);
});
