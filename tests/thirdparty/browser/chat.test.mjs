// The chat of examples/chat in a real browser against a real server: nothing is lost, nothing doubled.
//
//   GATEWAY_BIN=target/debug/bobolink npm test
//
// GATEWAY_BIN the binary to run `serve --dev` of

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { DevGateway } from '../support/dev_gateway.mjs';
import {
  connection, enter, joined, kept, newRoom, numbered, offsets, publish, say, sayAll, shows, stream, waiting, watchConnection,
} from './support/chat.mjs';
import { PHONE, assertFits, launch } from './support/pages.mjs';

/** What a browser says of a server that is not there. */
const NOT_THERE = /ERR_CONNECTION_REFUSED|ERR_INTERNET_DISCONNECTED|WebSocket connection to .* failed|ERR_CONNECTION_RESET/;

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
  await ada.locator('#text').pressSequentially('hello');
  await ben.locator('#typing.shown', { hasText: 'Ada is typing' }).waitFor();
  assert.equal(await ada.locator('#typing.shown').count(), 0, 'nobody is told of themselves');
  await ada.press('#text', 'Enter');
  await shows(ben, ['hello']);
  await ben.locator('#typing:not(.shown)').waitFor({ state: 'attached' });
});

test('a tab that was offline for a while has everything, once and in order', async (t) => {
  const room = newRoom();
  const [ada, ben] = [await enter(t, browser, gateway, room, 'Ada'), await enter(t, browser, gateway, room, 'Ben')];
  await say(ada, 'before');
  await shows(ben, ['before']);

  await ada.context().setOffline(true);
  await connection(ada, 'offline');
  await sayAll(ben, numbered('Ben', 1, 15));
  await publish(gateway, room, numbered('Server', 1, 15));
  await sayAll(ada, numbered('Ada', 1, 10));
  await waiting(ada, 10);
  assert.match(await ada.textContent('#notice-text'), /10 messages waiting/);
  const meanwhile = ['before', ...await orderOf(30)];
  assert.deepEqual(await kept(ada), ['before'], 'an offline tab must not hear it');

  await ada.context().setOffline(false);
  await shows(ben, [...meanwhile, ...numbered('Ada', 1, 10)]);
  await shows(ada, [...meanwhile, ...numbered('Ada', 1, 10)]);
  await waiting(ada, 0);
  assert.equal(await ada.locator('.note.missed').count(), 1);
  assert.deepEqual((await stream(gateway, room)).map(({ text }) => text), await kept(ada));

  async function orderOf(count) {
    return (await waitForLength(ben, count + 1)).slice(1);
  }
});

test('a tab that missed more than a recovery brings reads the rest', async (t) => {
  const room = newRoom();
  const ada = await enter(t, browser, gateway, room, 'Ada');
  await say(ada, 'before');
  await shows(ada, ['before']);
  await ada.context().setOffline(true);
  await connection(ada, 'offline');
  await publish(gateway, room, numbered('Server', 1, 400));
  await ada.context().setOffline(false);
  await shows(ada, ['before', ...numbered('Server', 1, 400)]);
  assert.equal(await ada.locator('.note.loss').count(), 0);
});

test('a gateway that is killed and comes back gets what was written meanwhile, and its loss is told', async (t) => {
  const room = newRoom();
  const own = await DevGateway.start();
  t.after(() => own.stop());
  const expected = NOT_THERE;
  const [ada, ben] = [await enter(t, browser, own, room, 'Ada', { expected }), await enter(t, browser, own, room, 'Ben', { expected })];
  await sayAll(ada, numbered('before', 1, 5));
  await shows(ben, numbered('before', 1, 5));

  await own.kill();
  await connection(ada, 'connecting');
  await connection(ben, 'connecting');
  await sayAll(ada, numbered('Ada', 1, 5));
  await sayAll(ben, numbered('Ben', 1, 5));
  await waiting(ada, 5);
  await own.restart();

  const order = await waitForLength(ada, 15);
  await shows(ben, order);
  assert.deepEqual(order.slice(0, 5), numbered('before', 1, 5));
  assert.deepEqual(order.filter((text) => text.startsWith('Ada')), numbered('Ada', 1, 5));
  assert.deepEqual(order.filter((text) => text.startsWith('Ben')), numbered('Ben', 1, 5));
  for (const page of [ada, ben]) {
    await page.locator('.note.loss', { hasText: 'lost its memory' }).waitFor();
  }
  // Whoever comes later sees the same, but for what nobody keeps any more.
  const eve = await enter(t, browser, own, room, 'Eve', { expected });
  await shows(eve, order.slice(5));
});

test('a message whose answer is lost is published and shown once', async (t) => {
  const room = newRoom();
  const ben = await enter(t, browser, gateway, room, 'Ben');
  const context = await browser.newContext();
  t.after(() => context.close());
  let cuts = 0;
  await context.routeWebSocket(/connection\/websocket/, (page) => {
    const server = page.connectToServer();
    let cutNext = false;
    page.onMessage((frame) => {
      cutNext ||= cuts < 5 && String(frame).includes('"publish":{"channel":"dev-chat:');
      server.send(frame);
    });
    server.onMessage((frame) => {
      // The server has applied it, and the client never hears so.
      if (cutNext) {
        cuts += 1;
        server.close();
        page.close({ code: 1001 });
      } else {
        page.send(frame);
      }
    });
  });
  // The stand-in for the socket says so when the page writes to what was just cut.
  const expected = /already in CLOSING/;
  const ada = await enter(t, browser, gateway, room, 'Ada', { context, expected });
  await sayAll(ada, numbered('Ada', 1, 12));
  await shows(ada, numbered('Ada', 1, 12));
  await shows(ben, numbered('Ada', 1, 12));
  await waiting(ada, 0);
  assert.equal(cuts, 5);
  assert.deepEqual((await stream(gateway, room)).map(({ text }) => text), numbered('Ada', 1, 12));
});

test('a token that expires is renewed without a break', async (t) => {
  const room = newRoom();
  const context = await browser.newContext();
  t.after(() => context.close());
  const tokens = await shortTokens(context, 2);
  const ada = await enter(t, browser, gateway, room, 'Ada', { context });
  const states = await watchConnection(ada);
  await tokens.count(4);
  await say(ada, 'still here');
  await shows(ada, ['still here']);
  assert.deepEqual((await states()).filter((state) => state !== 'online'), []);
});

test('a token that expired while the tab was offline is replaced', async (t) => {
  const room = newRoom();
  const context = await browser.newContext();
  t.after(() => context.close());
  const tokens = await shortTokens(context, 1);
  const ada = await enter(t, browser, gateway, room, 'Ada', { context });
  await context.setOffline(true);
  await connection(ada, 'offline');
  await publish(gateway, room, ['meanwhile']);
  const asked = tokens.asked;
  await tokens.expire();
  await context.setOffline(false);
  await shows(ada, ['meanwhile']);
  assert.ok(tokens.asked > asked);
});

test('scrolling back brings all of the history, and keeps the place', async (t) => {
  const room = newRoom();
  await publish(gateway, room, numbered('old', 1, 95));
  const ada = await enter(t, browser, gateway, room, 'Ada');
  await shows(ada, numbered('old', 66, 95));
  await ada.locator('#scroller').focus();
  for (const oldest of [36, 6, 1]) {
    await ada.evaluate(() => document.querySelector('#scroller').scrollTo(0, 0));
    await shows(ada, numbered('old', oldest, 95));
  }
  await ada.locator('#beginning').waitFor();
  await ada.evaluate(() => document.querySelector('#scroller').scrollTo(0, 0));
  await ada.locator('#newer').waitFor();
  await publish(gateway, room, ['new']);
  await ada.locator('#newer', { hasText: 'one new message' }).waitFor();
  assert.equal(await ada.evaluate(() => document.querySelector('#scroller').scrollTop), 0);
  await ada.click('#newer');
  await ada.locator('#newer').waitFor({ state: 'hidden' });
});

test('rooms that are not open count what is unread', async (t) => {
  const ada = await enter(t, browser, gateway, 'lobby', 'Ada');
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

/** Waits for so many kept messages and gives their texts. */
async function waitForLength(page, length) {
  const there = (wanted) => document.querySelectorAll('#messages .message[data-state=kept]').length === wanted;
  await page.waitForFunction(there, length).catch(async () => assert.equal((await kept(page)).length, length));
  return kept(page);
}

/** Lets the pages of a context ask for tokens that live for so many seconds, and counts them. */
async function shortTokens(context, ttl) {
  const waiters = new Set();
  const tokens = {
    asked: 0,
    /** Resolves when so many were asked for. */
    count: (wanted) => new Promise((resolve) => {
      const look = () => { if (tokens.asked >= wanted) resolve(); };
      waiters.add(look);
      look();
    }),
    /** Resolves when the last one has expired. */
    expire: () => new Promise((resolve) => setTimeout(resolve, ttl * 1000 + 1000)),
  };
  await context.route('**/dev/token', async (route) => {
    const { user } = route.request().postDataJSON();
    await route.continue({ postData: JSON.stringify({ user, ttl }) });
    tokens.asked += 1;
    waiters.forEach((look) => look());
  });
  return tokens;
}
