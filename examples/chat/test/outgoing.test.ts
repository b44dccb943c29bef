import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';

import { BobolinkError, Client } from '@bobolink/client';
import { memoryStore } from '@bobolink/client/outbox';
import { FakeServer } from '@bobolink/client/testing';

import { type Channels, type Message } from '../src/message.js';
import { OutgoingMessages } from '../src/outgoing.js';

const ROOM = 'dev-chat:room';
const message = (id: string): Message => ({ id, text: id, at: 0 });

function setUp(t: TestContext): { server: FakeServer; client: Client<Channels>; outgoing: OutgoingMessages } {
  const server = new FakeServer();
  const client = new Client<Channels>('ws://fake', { transport: server.transport, maxReconnectDelay: 1 });
  t.after(() => client.close());
  return { server, client, outgoing: new OutgoingMessages(client, { store: memoryStore() }, () => undefined) };
}

function states(outgoing: OutgoingMessages): string[] {
  return outgoing.of(ROOM).map(({ message: { id }, state }) => `${id} ${state}`);
}

async function until(condition: () => boolean): Promise<void> {
  const patience = AbortSignal.timeout(5_000);
  while (!condition()) {
    assert.ok(!patience.aborted, `not in time: ${String(condition)}`);
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('what is written offline waits, and arrives in order', async (t) => {
  const { server, client, outgoing } = setUp(t);
  for (const id of ['a', 'b', 'c']) {
    await outgoing.send(ROOM, message(id));
  }
  assert.deepEqual(states(outgoing), ['a waiting', 'b waiting', 'c waiting']);
  assert.equal(outgoing.waiting, 3);
  client.connect();
  await until(() => outgoing.waiting === 0);
  const published = server.commands.flatMap(({ publish }) => (publish ? [(publish.data as Message).id] : []));
  assert.deepEqual(published, ['a', 'b', 'c']);
  assert.deepEqual(states(outgoing), ['a sent', 'b sent', 'c sent']);
  assert.equal(outgoing.delivery('a'), 'exactly once');
});

test('what came back through its channel is gone', async (t) => {
  const { client, outgoing } = setUp(t);
  client.connect();
  await outgoing.send(ROOM, message('a'));
  await until(() => outgoing.waiting === 0);
  outgoing.arrived('a');
  assert.deepEqual(states(outgoing), []);
});

test('what cannot be kept is told to its writer', async (t) => {
  const { outgoing } = setUp(t);
  const large = { ...message('a'), text: 'x'.repeat(70_000) };
  await assert.rejects(outgoing.send(ROOM, large), BobolinkError);
  assert.equal(outgoing.waiting, 0);
});
