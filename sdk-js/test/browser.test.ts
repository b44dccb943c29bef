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
/** Milliseconds that a hand-over takes at most, beyond what this machine takes just now for a tab that comes in. */
const SOON = 1_000;
/** So many of them are looked at before a slow one is taken for what they are like: the machine may have stood still. */
const TRIES = 6;

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
  connected(): boolean;
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
      page.connected = () => client.state.name === 'connected';
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
    browser = await chromium.launch({ executablePath: CHROMIUM, args: ARGS, timeout: 60_000 });
  });
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

  test('three tabs share a connection, and hand it over within a second', async ({ annotate }) => {
    const tabs = [await tab(), await tab(), await tab()];
    const others = tabs.slice(1);
    const publish = async (first: number, last: number): Promise<void> => {
      for (const n of numbers(first, last)) await others[1]!.evaluate((data) => inPage().publish(data), `${user} ${n}`);
    };
    for (const page of tabs) await subscribed(page);
    expect(sockets).toBe(1);
    await publish(1, 5);
    for (const page of tabs) expect(await heard(page, 5)).toEqual(numbers(1, 5).map((n) => `${user} ${n}`));
    expect(await Promise.all(tabs.map((page) => page.evaluate(() => inPage().leads)))).toEqual([true, false, false]);
    const tries = [await handOver(tabs)];
    expect(sockets).toBe(2);
    await publish(6, 8);
    for (const page of others) expect(await heard(page, 8)).toEqual(numbers(1, 8).map((n) => `${user} ${n}`));
    while (tries.length < TRIES && !tries.some(isSoon)) tries.push(await handOver(tabs));
    const told = tries.map(({ took, arrival }) => `${took} ms (a tab comes in within ${arrival})`).join(', ');
    await annotate(`handed over in ${told}`);
    expect(tries.some(isSoon), told).toBe(true);
  });

  /** Milliseconds. */
  interface HandOver {
    took: number;
    /** What a tab takes for loading and subscribing. */
    arrival: number;
  }

  function isSoon({ took, arrival }: HandOver): boolean {
    return took < SOON + arrival;
  }

  /** One tab comes, and the first one, which leads, is closed; until the others are all subscribed again. */
  async function handOver(tabs: Page[]): Promise<HandOver> {
    const came = Date.now();
    const late = await tab();
    tabs.push(late);
    const arrival = Math.round((await subscribed(late)) - came);
    const before = await Promise.all(tabs.map((page) => page.evaluate(() => inPage().subscribed.length)));
    const closed = Date.now();
    await tabs.shift()?.close();
    const back = await Promise.all(tabs.map((page, index) => subscribed(page, before[index + 1]! + 1)));
    return { took: Math.round(Math.max(...back) - closed), arrival };
  }

  test('what is sent offline survives a reload and is sent once, in order', async () => {
    const [reader, writer] = [await tab(), await tab()];
    for (const page of [reader, writer]) await subscribed(page);
    await context.setOffline(true);
    for (const page of [reader, writer]) await page.waitForFunction(() => !inPage().connected(), undefined, POLLING);
    for (const n of numbers(1, 3)) await writer.evaluate((data) => inPage().send(data), `${user} ${n}`);
    await load(writer);
    expect(await writer.evaluate(() => inPage().waiting())).toBe(3);
    await writer.evaluate((data) => inPage().send(data), `${user} 4`);
    await context.setOffline(false);
    expect(await heard(reader, 4)).toEqual(numbers(1, 4).map((n) => `${user} ${n}`));
    await writer.waitForFunction(() => inPage().waiting() === 0, undefined, POLLING);
  });
});
