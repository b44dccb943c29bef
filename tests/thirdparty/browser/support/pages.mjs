// A browser, and visitors' pages in it.
//
// CHROMIUM     the browser; /usr/bin/chromium when not set
// SCREENSHOTS  folder for screenshots; none are taken without it

import assert from 'node:assert/strict';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { chromium } from 'playwright-core';

const { SCREENSHOTS, CHROMIUM = '/usr/bin/chromium' } = process.env;
const QUIET = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const START_MS = 60_000;
/** Only ever used up by a failing test, so it may be several times what a busy machine stands still. */
export const PATIENCE_MS = 20_000;
/** Only tests take the network away, and whatever a page asks for from then on fails; they look at what it makes of it. */
const WITHOUT_NETWORK = /net::ERR_INTERNET_DISCONNECTED/;

export const DESKTOP = { width: 1280, height: 800 };
export const PHONE = { width: 390, height: 844 };

export function launch() {
  if (SCREENSHOTS) mkdirSync(SCREENSHOTS, { recursive: true });
  return chromium.launch({ executablePath: CHROMIUM, args: QUIET, timeout: START_MS });
}

/**
 * A fresh visitor's page, in a context of its own unless `options.context` is one. Anything the browser
 * complains about fails the test, but for what `options.expected` fits and for the network being away.
 */
export async function visit(t, browser, url, { context: shared, expected = /^$/, ...options } = {}) {
  const context = shared ?? await browser.newContext({ viewport: DESKTOP, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  const complaints = [];
  const complain = (text) => { if (!expected.test(text) && !WITHOUT_NETWORK.test(text)) complaints.push(text); };
  page.on('pageerror', (error) => complain(error.message));
  page.on('console', (message) => { if (message.type() === 'error') complain(message.text()); });
  t.after(async () => {
    await (shared ? page.close() : context.close());
    assert.deepEqual(complaints, []);
  });
  await page.goto(url);
  return page;
}

/** Fails if the page is wider than its window. */
export async function assertFits(page) {
  const { wide, room } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, room: innerWidth }));
  assert.ok(wide <= room, `${wide} px of page in a window of ${room} px`);
}

export async function picture(page, name) {
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, `${name}.png`) });
}
