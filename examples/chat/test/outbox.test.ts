import assert from 'node:assert/strict';
import { mock, test } from 'node:test';

import type { Message } from '../src/message.js';
import { Outbox } from '../src/outbox.js';

const message = (id: string): Message => ({ id, text: id, at: 0 });
const lost = { message: 'connection lost', temporary: true };
const refused = { message: 'permission denied', temporary: false };

/** An outbox whose attempts are answered by hand. */
function outbox(): { outbox: Outbox; attempts: { id: string; done: () => void; fail: (error: object) => void }[] } {
  const attempts: { id: string; done: () => void; fail: (error: object) => void }[] = [];
  const publish = (_: string, { id }: Message): Promise<void> =>
    new Promise((done, fail) => attempts.push({ id, done, fail }));
  return { outbox: new Outbox(publish, () => undefined), attempts };
}

function states(of: Outbox): string[] {
  return of.of('room').map(({ message: { id }, state }) => `${id} ${state}`);
}

/** Lets everything that waits for a promise run. */
const settled = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('nothing is sent without a connection, and all of it in order with one', async () => {
  const { outbox: box, attempts } = outbox();
  ['a', 'b'].forEach((id) => box.send('room', message(id)));
  await settled();
  assert.equal(attempts.length, 0);
  assert.deepEqual(states(box), ['a waiting', 'b waiting']);
  assert.equal(box.waiting, 2);
  box.connected(true);
  await settled();
  assert.deepEqual(attempts.map(({ id }) => id), ['a'], 'one at a time keeps the order');
  attempts[0]!.done();
  await settled();
  assert.deepEqual(states(box), ['a sent', 'b sending']);
});

test('what broke off is sent again before what came after it', async () => {
  const { outbox: box, attempts } = outbox();
  box.connected(true);
  ['a', 'b'].forEach((id) => box.send('room', message(id)));
  box.connected(false);
  attempts[0]!.fail(lost);
  await settled();
  assert.deepEqual(states(box), ['a waiting', 'b waiting']);
  box.connected(true);
  await settled();
  assert.deepEqual(attempts.map(({ id }) => id), ['a', 'a']);
});

test('a temporary refusal is tried again after a while', async (t) => {
  t.after(() => mock.timers.reset());
  mock.timers.enable({ apis: ['setTimeout'] });
  const { outbox: box, attempts } = outbox();
  box.connected(true);
  box.send('room', message('a'));
  attempts[0]!.fail(lost);
  await settled();
  assert.equal(attempts.length, 1);
  mock.timers.tick(1_000);
  assert.equal(attempts.length, 2);
});

test('what the server refuses for good is told, and does not hold up the rest', async () => {
  const { outbox: box, attempts } = outbox();
  box.connected(true);
  ['a', 'b'].forEach((id) => box.send('room', message(id)));
  attempts[0]!.fail(refused);
  await settled();
  assert.deepEqual(states(box), ['a failed', 'b sending']);
  assert.equal(box.of('room')[0]?.reason, 'permission denied');
  box.retry('a');
  attempts[1]!.done();
  await settled();
  assert.deepEqual(states(box), ['a sending', 'b sent']);
  attempts[2]!.fail(refused);
  await settled();
  box.discard('a');
  assert.deepEqual(states(box), ['b sent']);
});

test('what came back through its channel is gone, even before its answer', async () => {
  const { outbox: box, attempts } = outbox();
  box.connected(true);
  ['a', 'b'].forEach((id) => box.send('room', message(id)));
  box.arrived('a');
  assert.deepEqual(states(box), ['b waiting']);
  attempts[0]!.fail(lost);
  await settled();
  assert.deepEqual(states(box), ['b sending'], 'a is in the stream, whatever its answer was');
});

test('it has a limit', () => {
  const { outbox: box } = outbox();
  for (let n = 0; n < 500; n += 1) {
    assert.ok(!box.full);
    box.send('room', message(String(n)));
  }
  assert.ok(box.full);
});
