// Tabs of one user share one connection: one of them holds it, and when that one is closed the next does.

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { DevGateway } from '../support/dev_gateway.mjs';
import { connection, enter, joined, newRoom, numbered, publish, say, sayAll, shows, stream, waiting, watchConnection } from './support/chat.mjs';
import { PATIENCE_MS, launch, visit } from './support/pages.mjs';

/** Milliseconds that a hand-over takes at most, beyond what this machine takes just now for a tab that comes in. */
const SOON = 1_000;
/** So many of them are looked at before a slow one is taken for what they are like: the machine may have stood still. */
const TRIES = 6;

let browser;
let gateway;

before(async () => {
  gateway = await DevGateway.start();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await gateway?.stop();
});

/** A browser in which somebody has two tabs; the first holds the connection. */
async function twoTabs(t, room) {
  const context = await browser.newContext();
  t.after(() => context.close());
  const first = await enter(t, browser, gateway, room, 'Ada', { context });
  // It comes in under the name that this browser remembers.
  const second = await visit(t, browser, first.url(), { context });
  await joined(second, room);
  return { context, first, second };
}

test('two tabs of one user have one connection between them, and both show everything', async (t) => {
  const room = newRoom();
  const { first, second } = await twoTabs(t, room);
  const ben = await enter(t, browser, gateway, room, 'Ben');
  const { num_clients: clients, num_users: users } = await gateway.api('presence_stats', { channel: `dev-chat:${room}` });
  assert.deepEqual([clients, users], [2, 2], 'Ada counts once');
  const texts = [];
  for (const [page, text] of [[first, 'from the first'], [second, 'from the second'], [ben, 'from Ben']]) {
    await say(page, text);
    texts.push(text);
    for (const tab of [first, second, ben]) await shows(tab, texts);
  }
  assert.deepEqual((await stream(gateway, room)).map(({ text }) => text), texts);
});

test('when the tab that holds the connection is closed, the other goes on without a loss', async (t) => {
  const room = newRoom();
  const { first, second } = await twoTabs(t, room);
  await publish(gateway, room, numbered('before', 1, 5));
  await shows(second, numbered('before', 1, 5));
  const states = await watchConnection(second);

  // While it closes there is a message all the time, from a backend and from the tab that stays.
  const publishing = publish(gateway, room, numbered('meanwhile', 1, 100));
  const saying = sayAll(second, numbered('Ada', 1, 5));
  const closedAt = Date.now();
  await first.close();
  await Promise.all([publishing, saying]);

  const inStream = async () => (await stream(gateway, room)).map(({ text }) => text);
  await waiting(second, 0);
  await second.waitForFunction((count) => document.querySelectorAll('#messages .message[data-state=kept]').length === count, 110);
  await connection(second, 'online');
  t.diagnostic(`everything was there ${Date.now() - closedAt} ms after the tab was closed; states: ${(await states()).join(', ')}`);
  const all = await inStream();
  await shows(second, all);
  assert.deepEqual(all.filter((text) => text.startsWith('meanwhile')), numbered('meanwhile', 1, 100));
  assert.deepEqual(all.filter((text) => text.startsWith('Ada')), numbered('Ada', 1, 5));
});

test('the hand-over to another tab is soon', async (t) => {
  const room = newRoom();
  const { context, first } = await twoTabs(t, room);
  const tabs = context.pages();
  const tries = [];
  while (tries.length < TRIES && !tries.some(isSoon)) {
    const cameAt = Date.now();
    tabs.push(await visit(t, browser, first.url(), { context }));
    await joined(tabs.at(-1), room);
    const arrival = Date.now() - cameAt;
    // The next tab's client is connected anew, under a new name for the server.
    const before = await clientsIn(room);
    const closedAt = Date.now();
    await tabs.shift().close();
    await othersIn(room, before);
    tries.push({ handOver: Date.now() - closedAt, arrival });
    await connection(tabs[0], 'online');
    await say(tabs[0], 'still here');
    await shows(tabs.at(-1), tries.map(() => 'still here'));
  }
  const told = tries.map(({ handOver, arrival }) => `${handOver} ms (a tab comes in within ${arrival})`).join(', ');
  t.diagnostic(`handed over in ${told}`);
  assert.ok(tries.some(isSoon), told);
});

test('what was written offline survives the tab, once and in order', async (t) => {
  const room = newRoom();
  const context = await browser.newContext();
  t.after(() => context.close());
  const first = await enter(t, browser, gateway, room, 'Ada', { context });
  await say(first, 'online');
  await shows(first, ['online']);
  await context.setOffline(true);
  await connection(first, 'offline');
  await sayAll(first, numbered('offline', 1, 5));
  await waiting(first, 5);
  const address = first.url();
  await first.close();
  await context.setOffline(false);
  const second = await visit(t, browser, address, { context });
  await shows(second, ['online', ...numbered('offline', 1, 5)]);
  assert.deepEqual((await stream(gateway, room)).map(({ text }) => text), ['online', ...numbered('offline', 1, 5)]);
});

function isSoon({ handOver, arrival }) {
  return handOver < SOON + arrival;
}

/** Resolves when there are clients in a room, and none of these. */
async function othersIn(room, before) {
  const late = AbortSignal.timeout(PATIENCE_MS);
  for (;;) {
    const now = await clientsIn(room);
    if (now.length > 0 && !now.some((client) => before.includes(client))) return;
    assert.ok(!late.aborted, `after ${PATIENCE_MS} ms the other tab has not taken over`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function clientsIn(room) {
  const { presence } = await gateway.api('presence', { channel: `dev-chat:${room}` });
  return Object.keys(presence);
}
