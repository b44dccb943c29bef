// Walks a newcomer's first minute through the playground, in a real browser against a real server.
//
//   GATEWAY_BIN=target/debug/bobolink npm test
//
// GATEWAY_BIN the binary to run `serve --dev` of
// BASE_URL    a server that runs already, in its place

import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { after, before, test } from 'node:test';

import { DevGateway } from '../support/dev_gateway.mjs';
import { DESKTOP, PHONE, assertFits, launch, picture, visit } from './support/pages.mjs';

let { BASE_URL } = process.env;
const LOBBY = 'dev:lobby';

let browser;
let gateway;

before(async () => {
  if (!BASE_URL) {
    gateway = await DevGateway.start();
    BASE_URL = gateway.url;
  }
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await gateway?.stop();
});

test('a message is published and comes back with its offset', async (t) => {
  const page = await open(t);
  await enter(page);
  const offset = await say(page, 'first');
  assert.ok(offset > 0, `offset ${offset}`);
  assert.equal(await say(page, 'second'), offset + 1);
  assert.match(await page.textContent('#feed-position'), new RegExp(`offset ${offset + 1} · epoch .+`));
  await picture(page, 'playground-live');
});

test('frames are shown as sent and received', async (t) => {
  const page = await open(t);
  await enter(page);
  const kinds = await page.locator('#frames .frame-kind').allTextContents();
  assert.ok(kinds.filter((kind) => kind === 'connect').length === 2, `connect and its answer in ${kinds}`);
  assert.ok(kinds.filter((kind) => kind === 'subscribe').length === 2, `subscribe and its answer in ${kinds}`);
  const sent = page.locator('.frame[data-way=out][data-kind=subscribe] pre');
  assert.equal(JSON.parse(await sent.textContent()).subscribe.channel, LOBBY);
  await page.check('#frames-pretty');
  assert.match(await sent.textContent(), /\n {2}"subscribe": \{/);
});

test('what a message carries never becomes markup', async (t) => {
  const page = await open(t);
  await enter(page);
  const text = `<img src=x onerror=document.title=1>${randomUUID()}`;
  const row = await publish(page, { text });
  assert.equal(JSON.parse(await row.locator('pre').textContent()).text, text);
  assert.equal(await row.locator('img').count(), 0);
  assert.equal(await page.title(), 'Bobolink playground');
});

test('broken JSON is refused with its place, and never sent', async (t) => {
  const page = await open(t);
  await enter(page);
  await page.fill('#payload', '{"text":\n  oops}');
  assert.match(await page.textContent('#payload-note'), /^Line 2, column 3: /);
  assert.ok(await page.isDisabled('#publish'));
});

test('presence lists everyone here, and a join is told', async (t) => {
  const page = await open(t);
  await enter(page);
  const other = await open(t, '/#join');
  await online(other);
  const [me, them] = [await page.inputValue('#user'), await other.inputValue('#user')];
  await page.locator('.feed-note', { hasText: `${them} joined` }).first().waitFor();
  await page.click('#tab-presence');
  for (const name of [me, them]) await page.locator(`#presence [data-user="${name}"]`).first().waitFor();
  await page.click('#presence-stats-load');
  await page.waitForFunction(() => /^\d+ connections, \d+ users? in dev:lobby$/.test(document.querySelector('#presence-summary').textContent));
  await picture(page, 'playground-presence');
});

test('history gives back what was published, either way round', async (t) => {
  const page = await open(t);
  await enter(page);
  await say(page, 'older');
  const newest = await say(page, 'newer');
  await page.click('#tab-history');
  await page.fill('#history-limit', '2');
  assert.deepEqual(await loadHistory(page), [newest, newest - 1]);
  await page.uncheck('#history-reverse');
  const [first, second] = await loadHistory(page);
  assert.equal(second, first + 1);
  await picture(page, 'playground-history');
});

test('a dropped connection recovers what another page published meanwhile', async (t) => {
  const page = await open(t);
  await enter(page);
  const seen = await say(page, 'before the drop');
  const other = await open(t, '/#join');
  await online(other);
  await page.click('#drop');
  await page.locator('#banner').waitFor();
  assert.match(await page.textContent('#banner-title'), new RegExp(`offset ${seen}\\.`));

  const text = `while away ${randomUUID()}`;
  const missed = await publish(other, { text });
  assert.equal(Number(await missed.getAttribute('data-offset')), seen + 1);
  assert.equal(await page.locator('.message', { hasText: text }).count(), 0, 'a dropped page must not hear it');
  await picture(page, 'playground-dropped');

  await page.click('#recover');
  const recovered = page.locator('#messages .message[data-recovered=true]', { hasText: text });
  await recovered.waitFor();
  assert.equal(Number(await recovered.getAttribute('data-offset')), seen + 1);
  assert.equal(await recovered.count(), 1);
  await page.locator('.feed-note[data-kind=good]', { hasText: 'recovered: true' }).waitFor();
  assert.equal(await say(page, 'after'), seen + 2);
  await picture(page, 'playground-recovered');
});

test('one page alone can miss a message and get it back', async (t) => {
  const page = await open(t);
  await enter(page);
  await page.click('#drop');
  await page.click('#away-publish');
  await page.locator('#banner-text', { hasText: '1 message published by others' }).waitFor();
  await page.click('#recover');
  await page.locator('#messages .message[data-recovered=true]', { hasText: 'You missed this' }).waitFor();
});

test('a channel of an unknown namespace is refused in words', async (t) => {
  const page = await open(t);
  await enter(page);
  await page.fill('#channel', `no-such-namespace-${randomUUID()}:x`);
  await page.click('#subscribe');
  await page.locator('#channels li[data-state=refused]').waitFor();
  assert.match(await page.textContent('#channels-note'), /: 102 unknown channel$/);
});

test('a subscription that the server made can be ended', async (t) => {
  if (!gateway) return t.skip('needs the server API of a gateway of its own');
  const page = await open(t);
  await enter(page);
  const [user, channel] = [await page.inputValue('#user'), `dev:${randomUUID()}`];
  await gateway.api('subscribe', { user, channel });
  const line = page.locator(`#channels li[data-channel="${channel}"][data-state=subscribed]`);
  await line.waitFor();
  await line.getByRole('button', { name: 'Unsubscribe' }).click();
  await line.waitFor({ state: 'detached' });
  await page.locator('.frame[data-way=in][data-kind=unsubscribe]').waitFor({ state: 'attached' });
  const { num_clients: clients } = await gateway.api('presence_stats', { channel });
  assert.equal(clients, 0);
  return undefined;
});

test('the page fits a phone and a desktop, light and dark', async (t) => {
  for (const viewport of [DESKTOP, PHONE]) {
    for (const colorScheme of ['light', 'dark']) {
      const page = await open(t, '/#join', { viewport, colorScheme });
      await online(page);
      await assertFits(page);
    }
  }
});

function open(t, path = '/', options = {}) {
  return visit(t, browser, new URL(path, BASE_URL).href, options);
}

/** Connects and subscribes by the guide's buttons. */
async function enter(page) {
  await page.click('#step-connect');
  await page.locator('#status[data-state=online]').waitFor();
  await page.click('#step-subscribe');
  await online(page);
}

async function online(page) {
  await page.locator(`#channels li[data-channel="${LOBBY}"][data-state=subscribed]`).waitFor();
}

/** Publishes data with a text no other message has, and gives the row it comes back as. */
async function publish(page, data) {
  await page.fill('#payload', JSON.stringify(data));
  await page.press('#payload', 'Control+Enter');
  const row = page.locator('#messages .message', { hasText: data.text });
  await row.waitFor();
  return row;
}

/** Publishes a text and gives the offset it got. */
async function say(page, words) {
  const row = await publish(page, { text: `${words} ${randomUUID()}` });
  return Number(await row.getAttribute('data-offset'));
}

/** Loads the history tab, and gives the offsets in the order shown. */
async function loadHistory(page) {
  const before = await page.locator('.frame[data-way=in][data-kind=history]').count();
  await page.click('#history-load');
  await page.waitForFunction((n) => document.querySelectorAll('.frame[data-way=in][data-kind=history]').length > n, before);
  return page.locator('#history .message').evaluateAll((rows) => rows.map((row) => Number(row.dataset.offset)));
}
