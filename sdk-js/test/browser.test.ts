/** Tabs and outbox in a real browser, with its locks, channels and database, against the gateway. */

import { build } from 'esbuild';
import { chromium, type Browser, type BrowserContext, type Page } from 'playwright-core';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';

import { numbers } from './behaviour/scenarios.js';

const { CHROMIUM = '/usr/bin/chromium' } = process.env;
const ARGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--no-first-run',
  '--disable-background-networking',
  // The pages come from the test, which a browser takes for a network further away than the gateway's.
  '--disable-features=LocalNetworkAccessChecks',
];
/** Frames are not drawn in tabs in the background, so do not wait for one between two looks. */
const POLLING = { polling: 50 };

interface DevGateway {
  url: string;
  stop(): Promise<void>;
}

/** What the script in the page offers to the test. */
interface InPage {
  start(user: string, channel: string): Promise<void>;
  send(data: unknown): Promise<void>;
  publish(data: unknown): Promise<void>;
  heard: unknown[];
  /** Milliseconds since the start at which it was subscribed, each time. */
  subscribed: number[];
  waiting(): number;
  leads: boolean;
}

/** There only in the page. */
declare const inPage: () => InPage;

const SCRIPT = `
  import { Outbox } from './src/outbox.ts';
  import { sharedClient } from './src/tabs.ts';
  const page = {
    heard: [], subscribed: [], leads: false,
    async start(user, channel) {
      const getToken = async () => {
        const response = await fetch('/dev/token', { method: 'POST', body: JSON.stringify({ user }) });
        return (await response.json()).token;
      };
      const endpoint = location.origin.replace('http', 'ws') + '/connection/websocket';
      const client = sharedClient(endpoint, { name: user, getToken, onLead: () => (page.leads = true) }).connect();
      const outbox = new Outbox(client, { name: 'outbox of ' + user, minRetryDelay: 50 });
      const sub = client.subscription(channel);
      sub.on('publication', ({ data }) => page.heard.push(data));
      sub.on('subscribed', () => page.subscribed.push(performance.timeOrigin + performance.now()));
      page.send = (data) => outbox.send(channel, data);
      page.publish = (data) => sub.publish(data);
      page.waiting = () => outbox.messages.length;
      sub.subscribe();
      await outbox.ready();
    },
  };
  globalThis.inPage = () => page;
`;

describe('in Chromium', () => {
  let gateway: DevGateway;
  let browser: Browser;
  let context: BrowserContext;
  let script: string;
  let sockets: number;
  let user: string;

  beforeAll(async () => {
    const support = new URL('../../tests/thirdparty/support/dev_gateway.mjs', import.meta.url);
    const module = (await import(support.href)) as { DevGateway: { start(): Promise<DevGateway> } };
    const stdin = { contents: SCRIPT, resolveDir: new URL('..', import.meta.url).pathname };
    const bundled = await build({ stdin, bundle: true, format: 'iife', write: false });
    script = bundled.outputFiles[0]?.text ?? '';
    gateway = await module.DevGateway.start();
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGS });
  }, 60_000);
  afterAll(async () => {
    await browser.close();
    await gateway.stop();
  });
  beforeEach(async () => {
    sockets = 0;
    user = `user ${Math.random()}`;
    context = await browser.newContext();
  });
  afterEach(() => context.close());

  async function tab(): Promise<Page> {
    const page = await context.newPage();
    page.on('websocket', () => (sockets += 1));
    // Served from here, so that it can be loaded while the browser is offline.
    await page.route('**/tab', (route) => route.fulfill({ contentType: 'text/html', body: `<script>${script}</script>` }));
    await load(page);
    return page;
  }

  async function load(page: Page): Promise<void> {
    await page.goto(`${gateway.url}/tab`);
    await page.evaluate((who) => inPage().start(who, 'dev:lobby'), user);
  }

  /** The data of this user's messages, once there are so many. */
  async function heard(page: Page, count: number): Promise<unknown[]> {
    await page.waitForFunction((wanted) => inPage().heard.length >= wanted, count, POLLING);
    return page.evaluate(() => inPage().heard);
  }

  async function subscribed(page: Page, times = 1): Promise<number> {
    await page.waitForFunction((wanted) => inPage().subscribed.length >= wanted, times, POLLING);
    return page.evaluate((wanted) => inPage().subscribed[wanted - 1]!, times);
  }

  test('three tabs share a connection, and hand it over within a second', { timeout: 60_000 }, async () => {
    const [first, second, third] = [await tab(), await tab(), await tab()];
    for (const page of [first, second, third]) await subscribed(page);
    expect(sockets).toBe(1);
    for (const n of numbers(1, 5)) await third.evaluate((data) => inPage().publish(data), `${user} ${n}`);
    for (const page of [first, second, third]) {
      expect(await heard(page, 5)).toEqual(numbers(1, 5).map((n) => `${user} ${n}`));
    }
    expect(await Promise.all([first, second, third].map((page) => page.evaluate(() => inPage().leads)))).toEqual([true, false, false]);
    const closed = Date.now();
    await first.close();
    for (const page of [second, third]) expect((await subscribed(page, 2)) - closed).toBeLessThan(1_000);
    expect(sockets).toBe(2);
    for (const n of numbers(6, 8)) await third.evaluate((data) => inPage().publish(data), `${user} ${n}`);
    for (const page of [second, third]) expect(await heard(page, 8)).toEqual(numbers(1, 8).map((n) => `${user} ${n}`));
  });

  test('what is sent offline survives a reload and is sent once, in order', { timeout: 60_000 }, async () => {
    const [reader, writer] = [await tab(), await tab()];
    for (const page of [reader, writer]) await subscribed(page);
    await context.setOffline(true);
    for (const n of numbers(1, 3)) await writer.evaluate((data) => inPage().send(data), `${user} ${n}`);
    await load(writer);
    expect(await writer.evaluate(() => inPage().waiting())).toBe(3);
    await writer.evaluate((data) => inPage().send(data), `${user} 4`);
    await context.setOffline(false);
    expect(await heard(reader, 4)).toEqual(numbers(1, 4).map((n) => `${user} ${n}`));
    await writer.waitForFunction(() => inPage().waiting() === 0, undefined, POLLING);
  });
});
