// The chat of examples/chat when something is in the way: no network, a server that is gone, answers that
// are lost, tokens that expire, and a past that is long. Nothing is lost, nothing doubled.
//
// GATEWAY_BIN the binary to run `serve --dev` of

import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { Record } from '../node/support/waiting.mjs';
import { DevGateway } from '../support/dev_gateway.mjs';
import {
  connection, enter, kept, newRoom, numbered, offsets, publish, say, sayAll, shows, stream, waitForLength, waiting, watchConnection,
} from './support/chat.mjs';
import { launch } from './support/pages.mjs';

/** What a browser says of a server that is not there, or is gone before it has answered. */
const NOT_THERE = /ERR_CONNECTION_(REFUSED|RESET|CLOSED|ABORTED)|ERR_EMPTY_RESPONSE|WebSocket connection to .* failed/;
/** Seconds a token lives: so many that it is good when it comes, though the machine stands still meanwhile. */
const TTL = 8;
/** Milliseconds for two of them to be renewed on a busy machine. */
const TWO_LIVES = 60_000;

let browser;
let gateway;
/** Stopped when all pages are closed, or these would complain. */
const gateways = [];

before(async () => {
  gateway = await gatewayOf();
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await Promise.all(gateways.map((started) => started.stop()));
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

test('a tab that missed more than the server has at hand gets it from the archive', async (t) => {
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

test('a tab that missed more than a recovery brings begins anew, with all that there is', async (t) => {
  const room = newRoom();
  const strict = await gatewayOf({ BOBOLINK_HISTORY_RECOVERY_MAX_PUBLICATIONS: '20' });
  const ada = await enter(t, browser, strict, room, 'Ada');
  await say(ada, 'before');
  await shows(ada, ['before']);
  await ada.context().setOffline(true);
  await connection(ada, 'offline');
  await publish(strict, room, numbered('Server', 1, 130));
  await ada.context().setOffline(false);
  await shows(ada, numbered('Server', 101, 130));
  await scrollBack(ada);
  await shows(ada, ['before', ...numbered('Server', 1, 130)]);
  await ada.locator('.note.missed').waitFor();
  assert.equal(await ada.locator('.note.loss').count(), 0);
});

test('a gateway that is killed and comes back: nothing is lost, nothing doubled', async (t) => {
  const room = newRoom();
  const { own, ada, ben } = await killed(t, room);
  await own.restart();
  const order = await waitForLength(ada, 15);
  await shows(ben, order);
  assert.deepEqual(order.slice(0, 5), numbered('before', 1, 5));
  assert.deepEqual(order.filter((text) => text.startsWith('Ada')), numbered('Ada', 1, 5));
  assert.deepEqual(order.filter((text) => text.startsWith('Ben')), numbered('Ben', 1, 5));
  for (const page of [ada, ben]) assert.equal(await page.locator('.note.loss').count(), 0);
  // Whoever comes later sees the same.
  const eve = await enter(t, browser, own, room, 'Eve');
  await shows(eve, order);
});

test('a gateway that comes back without its history is told from one that has it', async (t) => {
  const room = newRoom();
  const { own, ada, ben } = await killed(t, room);
  await own.forget();
  await own.restart();
  const order = await waitForLength(ada, 15);
  await shows(ben, order);
  for (const page of [ada, ben]) {
    await page.locator('.note.loss', { hasText: 'began anew' }).waitFor();
  }
  const eve = await enter(t, browser, own, room, 'Eve');
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
    let isCut = false;
    server.onMessage((frame) => {
      if (isCut) return;
      // The server has applied it, and the client never hears so.
      if (cutNext) {
        isCut = true;
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
  const tokens = await shortTokens(context);
  const ada = await enter(t, browser, gateway, room, 'Ada', { context });
  await say(ada, 'here');
  // The archive has been asked, and asks for no token any more.
  await ada.locator('#beginning').waitFor();
  const states = await watchConnection(ada);
  await tokens.count(tokens.asked + 2);
  await say(ada, 'still here');
  await shows(ada, ['here', 'still here']);
  assert.deepEqual((await states()).filter((state) => state !== 'online'), []);
});

test('a token that expired while the tab was offline is replaced', async (t) => {
  const room = newRoom();
  const context = await browser.newContext();
  t.after(() => context.close());
  const tokens = await shortTokens(context);
  // Where the archive had not answered before, it is asked with the token of then first.
  const expected = /status of 401/;
  const ada = await enter(t, browser, gateway, room, 'Ada', { context, expected });
  await context.setOffline(true);
  await connection(ada, 'offline');
  await publish(gateway, room, ['meanwhile']);
  await tokens.expire();
  const { asked } = tokens;
  await context.setOffline(false);
  await shows(ada, ['meanwhile']);
  assert.ok(tokens.asked > asked);
});

test('whoever has scrolled up stays there, also if a message comes before the event of it', async (t) => {
  const room = newRoom();
  await publish(gateway, room, numbered('old', 1, 40));
  const ada = await enter(t, browser, gateway, room, 'Ada');
  await shows(ada, numbered('old', 11, 40));
  await ada.evaluate(() => {
    window.addEventListener('scroll', (event) => event.stopImmediatePropagation(), { capture: true });
    document.querySelector('#scroller').scrollTo(0, 0);
  });
  await shows(ada, numbered('old', 1, 40));
  await publish(gateway, room, ['new']);
  await ada.locator('#newer', { hasText: 'one new message' }).waitFor();
});

test('scrolling back brings all of the archive once and in order, while others talk, and keeps the place', async (t) => {
  const room = newRoom();
  // The server has the newest hundred at hand.
  await publish(gateway, room, numbered('old', 1, 245));
  const ada = await enter(t, browser, gateway, room, 'Ada');
  await shows(ada, numbered('old', 216, 245));
  await ada.locator('#scroller').focus();
  await ada.evaluate(() => document.querySelector('#scroller').scrollTo(0, 0));
  await shows(ada, numbered('old', 186, 245));
  const publishing = publish(gateway, room, numbered('live', 1, 20));
  await scrollBack(ada);
  await publishing;
  await shows(ada, [...numbered('old', 1, 245), ...numbered('live', 1, 20)]);
  assert.deepEqual(await offsets(ada), Array.from({ length: 265 }, (_, index) => index + 1));
  await ada.evaluate(() => document.querySelector('#scroller').scrollTo(0, 0));
  await ada.locator('#newer').waitFor();
  await publish(gateway, room, ['new']);
  await ada.locator('#newer', { hasText: 'new message' }).waitFor();
  assert.equal(await ada.evaluate(() => document.querySelector('#scroller').scrollTop), 0);
  await ada.click('#newer');
  await ada.locator('#newer').waitFor({ state: 'hidden' });
});

test('what cannot be loaded is said, and can be tried again', async (t) => {
  const room = newRoom();
  await publish(gateway, room, numbered('old', 1, 40));
  const context = await browser.newContext();
  t.after(() => context.close());
  let broken = true;
  await context.route('**/history/**', (route) => (broken ? route.fulfill({ status: 503, json: { detail: 'no store' } }) : route.continue()));
  const ada = await enter(t, browser, gateway, room, 'Ada', { context, expected: /503/ });
  await ada.locator('#earlier', { hasText: 'Not loaded: no store' }).waitFor();
  await publish(gateway, room, ['live']);
  await shows(ada, ['live']);
  broken = false;
  await ada.click('#earlier');
  await shows(ada, [...numbered('old', 11, 40), 'live']);
});

async function gatewayOf(settings) {
  const started = await DevGateway.start(settings);
  gateways.push(started);
  return started;
}

/** Ada and Ben with five messages, and five more of each that wait since their gateway was killed. */
async function killed(t, room) {
  const own = await gatewayOf();
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
  return { own, ada, ben };
}

/** Scrolls up until there is nothing before what is shown. */
async function scrollBack(page) {
  const beginning = page.locator('#beginning');
  while (await beginning.isHidden()) {
    const oldest = await page.locator('.message').first().getAttribute('data-offset');
    await page.evaluate(() => document.querySelector('#scroller').scrollTo(0, 0));
    await page.waitForFunction(
      (before) => !document.querySelector('#beginning').hidden || document.querySelector('.message').dataset.offset !== before,
      oldest,
    );
  }
}

/** Lets the pages of a context ask for tokens that live for `TTL` seconds, and counts them. */
async function shortTokens(context) {
  const asked = new Record('token asked for');
  await context.route('**/dev/token', async (route) => {
    const { user } = route.request().postDataJSON();
    asked.add(user);
    await route.continue({ postData: JSON.stringify({ user, ttl: TTL }) });
  });
  return {
    get asked() {
      return asked.items.length;
    },
    /** Resolves when so many were asked for. */
    count: (wanted) => asked.count(wanted, TWO_LIVES),
    /** Resolves when the last one has expired. */
    expire: () => new Promise((resolve) => setTimeout(resolve, TTL * 1000 + 1000)),
  };
}
