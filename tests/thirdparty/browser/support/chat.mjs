// What a visitor of the chat does, and what there is to see.

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';

import { visit } from './pages.mjs';

/** A room that no other test uses. */
export const newRoom = () => `room-${randomUUID().slice(0, 8)}`;

export const numbered = (name, first, last) =>
  Array.from({ length: last - first + 1 }, (_, index) => `${name} ${first + index}`);

/** Opens the chat in a room and comes in under a name; resolves when the room is joined. */
export async function enter(t, browser, { url }, room, name, options) {
  const page = await visit(t, browser, `${url}/chat/#/${room}`, options);
  await page.fill('#login-name', name);
  await page.press('#login-name', 'Enter');
  await joined(page, room);
  return page;
}

/** Waits until the page is connected, and the room open and joined with its own person in it. */
export async function joined(page, room) {
  await page.locator('#status[data-state=online]').waitFor();
  await page.locator('#room-name', { hasText: room }).waitFor();
  await page.locator('#people .you').waitFor({ state: 'attached' });
}

export async function say(page, text) {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

export async function sayAll(page, texts) {
  for (const text of texts) await say(page, text);
}

/** Presses keys in the message box until `seen` resolves, since who types is shown for a few seconds only. */
export async function typeUntil(page, seen) {
  let isOver = false;
  const over = seen.finally(() => (isOver = true));
  while (!isOver) await page.locator('#text').pressSequentially('Oh', { delay: 100 });
  await over;
}

/** Waits until exactly these messages are shown as kept by the server, in this order. */
export async function shows(page, texts) {
  const same = (wanted) => {
    const kept = [...document.querySelectorAll('#messages .message[data-state=kept] .text')];
    return JSON.stringify(kept.map((text) => text.textContent)) === JSON.stringify(wanted);
  };
  await page.waitForFunction(same, texts).catch(async (error) => {
    assert.deepEqual(await kept(page), texts);
    throw error;
  });
}

export function kept(page) {
  return page.locator('#messages .message[data-state=kept] .text').allTextContents();
}

/** Waits for so many kept messages and gives their texts. */
export async function waitForLength(page, length) {
  const there = (wanted) => document.querySelectorAll('#messages .message[data-state=kept]').length === wanted;
  await page.waitForFunction(there, length).catch(async () => assert.equal((await kept(page)).length, length));
  return kept(page);
}

export function offsets(page) {
  return page.locator('#messages .message[data-state=kept]').evaluateAll((rows) => rows.map((row) => Number(row.dataset.offset)));
}

/** Waits until there are so many messages that the server has not taken. */
export async function waiting(page, count) {
  const all = (wanted) => document.querySelectorAll('#messages .message[data-state=waiting]').length === wanted;
  await page.waitForFunction(all, count);
}

/** Waits until this is the state of the connection. */
export async function connection(page, state) {
  await page.locator(`#status[data-state=${state}]`).waitFor();
}

/** Every state of the connection from here on. */
export async function watchConnection(page) {
  await page.evaluate(() => {
    const status = document.querySelector('#status');
    window.seenStates = [];
    new MutationObserver(() => window.seenStates.push(status.dataset.state)).observe(status, { attributeFilter: ['data-state'] });
  });
  return () => page.evaluate(() => window.seenStates);
}

/** Publishes to a room as a backend does. */
export async function publish(gateway, room, texts) {
  const at = Date.now();
  for (const text of texts) {
    await gateway.api('publish', { channel: `dev-chat:${room}`, data: { id: randomUUID(), text, at } });
  }
}

/** Everything a room keeps, oldest first. */
export async function stream(gateway, room) {
  const address = `${gateway.url}/history/v1/channels/${encodeURIComponent(`dev-chat:${room}`)}/export`;
  const response = await fetch(address, { headers: { 'X-API-Key': gateway.apiKey } });
  assert.equal(response.status, 200);
  return (await response.text()).split('\n').filter(Boolean).map((line) => JSON.parse(line).data);
}
