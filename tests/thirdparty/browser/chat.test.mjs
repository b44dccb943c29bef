// The chat of examples/chat in a real browser against a real server: nothing is lost, nothing doubled.
//
//   GATEWAY_BIN=target/debug/bobolink npm test
//
// GATEWAY_BIN the binary to run `serve --dev` of

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { DevGateway } from '../support/dev_gateway.mjs';
import { connection, enter, joined, kept, newRoom, numbered, offsets, publish, say, sayAll, shows, typeUntil, waitForLength } from './support/chat.mjs';
import { PHONE, assertFits, launch } from './support/pages.mjs';

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

test('two tabs chat: both show every message once and in one order', async (t) => {
  const room = newRoom();
  const [ada, ben] = [await enter(t, browser, gateway, room, 'Ada'), await enter(t, browser, gateway, room, 'Ben')];
  await ada.locator('#people [data-user=Ben]').waitFor();
  await ben.locator('#people [data-user=Ada]').waitFor();
  const texts = [];
  for (let n = 1; n <= 10; n += 1) {
    await say(ada, `Ada ${n}`);
    texts.push(`Ada ${n}`);
    await shows(ben, texts);
    await say(ben, `Ben ${n}`);
    texts.push(`Ben ${n}`);
    await shows(ada, texts);
  }
  // And both at once: whatever the order is, it is the same for both.
  await Promise.all([sayAll(ada, numbered('Ada', 11, 20)), sayAll(ben, numbered('Ben', 11, 20))]);
  const order = (await waitForLength(ada, 40));
  await shows(ben, order);
  assert.deepEqual(order.filter((text) => text.startsWith('Ada')), numbered('Ada', 1, 20));
  assert.deepEqual(order.filter((text) => text.startsWith('Ben')), numbered('Ben', 1, 20));
  assert.deepEqual(await offsets(ada), Array.from({ length: 40 }, (_, index) => index + 1));
  assert.equal(await ada.locator('.message[data-own=true]').count(), 20);
});

test('who types is seen until the message is there', async (t) => {
  const room = newRoom();
  const [ada, ben] = [await enter(t, browser, gateway, room, 'Ada'), await enter(t, browser, gateway, room, 'Ben')];
  await ben.locator('#people [data-user=Ada]').waitFor();
  await typeUntil(ada, ben.locator('#typing.shown', { hasText: 'Ada is typing' }).waitFor());
  assert.equal(await ada.locator('#typing.shown').count(), 0, 'nobody is told of themselves');
  await say(ada, 'hello');
  await shows(ben, ['hello']);
  await ben.locator('#typing:not(.shown)').waitFor({ state: 'attached' });
});

test('a room can be left, and the last one stays', async (t) => {
  const room = newRoom();
  const ada = await enter(t, browser, gateway, room, 'Ada');
  const ben = await enter(t, browser, gateway, room, 'Ben');
  await ben.locator('#people [data-user=Ada]').waitFor();
  await ada.getByRole('button', { name: 'Leave the room' }).click();
  await ada.locator('.room-line', { hasText: room }).waitFor({ state: 'detached' });
  await ben.locator('#people [data-user=Ada]').waitFor({ state: 'detached' });
  await joined(ada, 'lobby');
  await ada.reload();
  await joined(ada, 'lobby');
  assert.equal(await ada.locator('.room-line', { hasText: room }).count(), 0);
  for (const left of ['lobby', 'birds']) {
    await ada.getByRole('button', { name: 'Leave the room' }).click();
    await ada.locator('.room-line', { hasText: left }).waitFor({ state: 'detached' });
  }
  await joined(ada, 'tea-break');
  assert.ok(await ada.getByRole('button', { name: 'Leave the room' }).isHidden());
});

test('rooms that are not open count what is unread', async (t) => {
  const ada = await enter(t, browser, gateway, 'lobby', 'Ada');
  // She is in that room, too: the others see so, and she counts who is there.
  await ada.locator('.room-line', { hasText: 'birds' }).locator('.room-people', { hasText: /[1-9]/ }).waitFor();
  await publish(gateway, 'birds', ['one', 'two']);
  await ada.locator('.room-line', { hasText: 'birds' }).locator('.badge', { hasText: '2' }).waitFor();
  assert.match(await ada.title(), /^\(2\) /);
  await ada.locator('.room-line', { hasText: 'birds' }).click();
  await joined(ada, 'birds');
  await ada.locator('.badge').waitFor({ state: 'detached' });
  assert.ok((await kept(ada)).includes('two'));
});

test('what a message carries never becomes markup', async (t) => {
  const room = newRoom();
  const ada = await enter(t, browser, gateway, room, 'Ada');
  const text = '<img src=x onerror=document.title=1> https://example.org/?a=<b>';
  await say(ada, text);
  await shows(ada, [text]);
  assert.equal(await ada.locator('.message img').count(), 0);
  const link = ada.locator('.message a');
  assert.equal(await link.getAttribute('href'), 'https://example.org/?a=');
  assert.match(await link.getAttribute('rel'), /noopener/);
});

test('everything can be done with the keyboard, and is named for a screen reader', async (t) => {
  const room = newRoom();
  const ada = await enter(t, browser, gateway, room, 'Ada');
  assert.equal(await focused(ada), 'text', 'after coming in one can write');
  await ada.keyboard.type('typed');
  await ada.keyboard.press('Enter');
  await shows(ada, ['typed']);
  const log = ada.getByRole('log', { name: 'Messages' });
  assert.equal(await log.getAttribute('aria-live'), 'polite');
  assert.match(await log.ariaSnapshot(), /You: typed/);
  await ada.getByRole('main', { name: room }).waitFor();
  await ada.getByRole('navigation', { name: 'Rooms' }).waitFor();
  await ada.getByRole('complementary', { name: '1 here' }).waitFor();
  await ada.getByRole('status').filter({ hasText: 'Connected' }).waitFor();

  await ada.locator('body').press('Home');
  await ada.getByRole('button', { name: 'lobby' }).focus();
  await ada.keyboard.press('Enter');
  await joined(ada, 'lobby');
  assert.equal(await focused(ada), 'text');
  await ada.getByRole('switch', { name: 'Pretend to be offline' }).focus();
  await ada.keyboard.press('Space');
  await connection(ada, 'offline');
  await ada.keyboard.press('Space');
  await connection(ada, 'online');
});

test('on a phone the rooms and a room are pages of their own', async (t) => {
  const page = await enter(t, browser, gateway, 'lobby', 'Ada', { viewport: PHONE, isMobile: true, hasTouch: true });
  await assertFits(page);
  await page.tap('#back');
  await page.getByRole('navigation', { name: 'Rooms' }).waitFor();
  assert.ok(await page.locator('#composer').isHidden());
  await assertFits(page);
  await page.locator('.room-line', { hasText: 'tea-break' }).tap();
  await joined(page, 'tea-break');
  await page.tap('#people-button');
  await page.locator('#people [data-user=Ada]').waitFor();
  await page.keyboard.press('Escape');
  await page.locator('#people-panel').waitFor({ state: 'hidden' });
  assert.equal(await focused(page), 'people-button');
  await page.goBack();
  await page.getByRole('navigation', { name: 'Rooms' }).waitFor();
});

function focused(page) {
  return page.evaluate(() => document.activeElement?.id);
}
