// The chat and the playground as they are shown in the README, and checked for what people with other
// eyes or no mouse need: both themes, both sizes, every rule of axe.
//
// SCREENSHOTS  folder for the pictures; none are taken without it

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';

import { DevGateway } from '../support/dev_gateway.mjs';
import { connection, enter, say, shows, typeUntil, waiting } from './support/chat.mjs';
import { DESKTOP, PHONE, assertFits, launch, picture, visit } from './support/pages.mjs';

/** What moves is not caught half-way. */
const STILL = { reducedMotion: 'reduce', locale: 'en-GB' };
const HAND = { ...STILL, viewport: PHONE, isMobile: true, hasTouch: true };
const LOOKS = [
  { name: 'light-1280', ...STILL, viewport: DESKTOP, colorScheme: 'light' },
  { name: 'dark-1280', ...STILL, viewport: DESKTOP, colorScheme: 'dark' },
  { name: 'light-390', ...HAND, colorScheme: 'light' },
  { name: 'dark-390', ...HAND, colorScheme: 'dark' },
];

let browser;
let gateway;
/** Stopped when all pages are closed, or these would complain. */
const gateways = [];
let axe;

before(async () => {
  gateway = await gatewayOf();
  browser = await launch();
  axe = await readFile(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
});

after(async () => {
  await browser?.close();
  await Promise.all(gateways.map((started) => started.stop()));
});

for (const { name, ...look } of LOOKS) {
  test(`the chat, ${name}: coming in, talking, offline and back`, async (t) => {
    const room = 'birds';
    const own = await gatewayOf();
    const fresh = await visit(t, browser, `${own.url}/chat/`, look);
    await accessible(fresh);
    await assertFits(fresh);
    await picture(fresh, `chat-login-${name}`);

    const page = await enter(t, browser, own, room, 'Mira', look);
    const talk = await talkOf(t, own, page, room);
    await picture(page, `chat-${name}`);
    await accessible(page);
    await assertFits(page);

    await page.context().setOffline(true);
    await connection(page, 'offline');
    await say(page, 'I am in a tunnel now, so this waits here');
    await say(page, 'and this comes after it');
    await waiting(page, 2);
    await picture(page, `chat-offline-${name}`);
    await accessible(page);
    await talk.others('Did you see its nest, too?');
    await page.context().setOffline(false);
    await connection(page, 'online');
    await page.locator('.note.missed').first().waitFor();
    await page.locator('.message[data-state=waiting]').first().waitFor({ state: 'detached' });
    await picture(page, `chat-back-${name}`);
    await accessible(page);

    if (look.isMobile) {
      await page.tap('#people-button');
      await picture(page, `chat-people-${name}`);
      await page.keyboard.press('Escape');
      await page.tap('#back');
      await picture(page, `chat-rooms-${name}`);
      await accessible(page);
    }
  });
}

for (const { name, ...look } of LOOKS) {
  test(`the playground, ${name}`, async (t) => {
    const page = await visit(t, browser, gateway.url, look);
    await accessible(page);
    await page.fill('#user', 'linnet-21');
    await page.fill('#payload', '{"text":"A bobolink sang from the fence this morning"}');
    await page.click('#step-connect');
    await page.locator('#status[data-state=online]').waitFor();
    await page.click('#step-subscribe');
    await page.locator('#channels li[data-state=subscribed]').waitFor();
    await page.click('#step-publish');
    await page.locator('#messages .message').first().waitFor();
    await page.locator('.frame[data-kind="push pub"]').first().waitFor();
    await accessible(page);
    await assertFits(page);
    await picture(page, `playground-${name}`);
  });
}

async function gatewayOf() {
  const started = await DevGateway.start();
  gateways.push(started);
  return started;
}

/** Some people talk in a room. */
async function talkOf(t, own, page, room) {
  const [ida, tom] = ['Ida', 'Tomás'];
  const hands = new Map();
  for (const name of [ida, tom]) hands.set(name, await enter(t, browser, own, room, name));
  const texts = await page.locator('#messages .text').allTextContents();
  const speak = async (name, text) => {
    await say(name === 'Mira' ? page : hands.get(name), text);
    texts.push(text);
    await shows(page, texts);
  };
  await speak(ida, 'A bobolink sang from the fence this morning: bubbling, tinny, like a tiny synthesizer');
  await speak(tom, 'Lucky you! Ours are not back yet');
  await speak(tom, 'They have 10,000 km to fly, though');
  await speak('Mira', 'Twice a year!');
  await speak('Mira', 'Here is a recording from the meadow: https://example.org/bobolink');
  await speak(ida, 'That is the one. Exactly that.');
  await typeUntil(hands.get(tom), page.locator('#typing.shown').waitFor());
  /** Resolves when the server has it. */
  const others = async (text) => {
    await say(hands.get(ida), text);
    await hands.get(ida).locator('.message[data-state=kept]', { hasText: text }).first().waitFor();
  };
  return { others };
}

/** What axe finds against WCAG 2.2 AA and its best practices: nothing. */
async function accessible(page) {
  // By the protocol of developer tools, which the page's policy does not concern.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => globalThis.axe.run(document, { resultTypes: ['violations'] }));
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 160)).slice(0, 3).join(' | ')}`);
  assert.deepEqual(found, []);
}
