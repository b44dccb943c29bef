/** Pages of the archive, joined with what comes live. */

import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { ChannelHistory, type ChannelHistoryOptions, type HistoryMessage } from '../src/history.js';
import { Client, UnauthorizedError, type Subscription } from '../src/index.js';
import { FakeServer } from '../src/testing.js';
import { numbers } from './behaviour/scenarios.js';
import { FakeArchive } from './support/archive.js';
import { settled } from './support/clock.js';
import { Seen } from './support/seen.js';
import { soon } from './support/soon.js';

let server: FakeServer;
let archive: FakeArchive;
let client: Client;
let sub: Subscription;
/** What the page shows: the past in front, what comes live behind. */
let shown: unknown[];
let history: ChannelHistory;

beforeEach(() => begin(1_000));
afterEach(end);

function begin(historySize: number): void {
  server = new FakeServer({ historySize });
  archive = new FakeArchive(server, 'a b');
  client = new Client('ws://fake', { transport: server.transport, minReconnectDelay: 1, maxReconnectDelay: 1 }).connect();
  sub = client.subscription('a b');
  shown = [];
}

function end(): void {
  history.close();
  client.close();
}

async function join(options: Partial<ChannelHistoryOptions> = {}): Promise<void> {
  sub.on('publication', ({ data }) => shown.push(data));
  const getToken = (): string => 'a token';
  history = new ChannelHistory(sub, { url: 'http://h/history', getToken, limit: 10, fetch: archive.fetch, retryDelay: 1, ...options });
  await sub.subscribe().ready();
}

async function older(): Promise<boolean> {
  const { messages, done } = await history.page();
  shown.unshift(...messages.map(({ data }) => data));
  return done;
}

test('scrolling back while messages come shows everything once and in order', async () => {
  numbers(1, 35).forEach((n) => archive.publish(n));
  await join();
  for (const n of numbers(36, 45)) {
    archive.publish(n);
    if (n % 2 === 0) await older();
  }
  expect(await older()).toBe(true);
  expect(shown).toEqual(numbers(1, 45));
  expect(await history.page()).toEqual({ messages: [], done: true });
});

test.each([1, 2, 3, 4, 5, 6, 7, 8])('in whatever order things happen there is no gap and no double (%i)', async (seed) => {
  let state = seed * 7919;
  const random = (below: number): number => (state = (state * 1_103_515_245 + 12_345) % 2 ** 31) % below;
  let published = 0;
  const some = (): void => numbers(1, random(12)).forEach(() => archive.publish((published += 1), { late: random(2) === 0 }));
  some();
  const joining = join({ limit: 1 + random(7) });
  if (random(2)) some();
  await joining;
  for (let done = false; !done; ) {
    some();
    if (random(4) === 0) {
      server.cut();
      numbers(1, random(5)).forEach(() => archive.publish((published += 1)));
      server.mend();
    }
    const page = older();
    some();
    archive.catchUp();
    done = await page;
    if (published > 120) some();
  }
  await soon(() => expect(shown.at(-1)).toBe(published || undefined));
  expect(shown).toEqual(numbers(1, published));
});

test('a message is what the service tells of it', async () => {
  const info = { user: 'ada', client: 'c', conn_info: { n: 1 } };
  archive.publish(1);
  archive.publish({ text: 'ü' }, { info, tags: { k: 'v' } });
  archive.publish(0, { data: undefined, b64data: 'AP8=' });
  await join();
  const { messages } = await history.page();
  expect(messages).toEqual<HistoryMessage[]>([
    { id: '1', channel: 'a b', epoch: 'fake', offset: 1, time: 1001, data: 1, prev: undefined },
    { id: '2', channel: 'a b', epoch: 'fake', offset: 2, time: 1002, data: { text: 'ü' }, prev: '1', tags: { k: 'v' }, info: { user: 'ada', client: 'c', connInfo: { n: 1 } } },
    { id: '3', channel: 'a b', epoch: 'fake', offset: 3, time: 1003, data: Uint8Array.of(0, 255), prev: '2' },
  ]);
});

test('it is asked for as the service wants it', async () => {
  numbers(1, 25).forEach((n) => archive.publish(n));
  await join({ headers: { 'X-Subscription-Token': 's' } });
  await Promise.all([history.page(), history.page()]);
  const [first, second] = archive.requests;
  expect(first!.url.pathname).toBe('/history/v1/channels/a%20b/messages');
  expect(Object.fromEntries(first!.url.searchParams)).toEqual({ limit: '10', epoch: 'fake', before_offset: '26' });
  expect(Object.fromEntries(second!.url.searchParams)).toEqual({ limit: '10', epoch: 'fake', before_offset: '26', cursor: '16' });
  expect([first!.headers.get('authorization'), first!.headers.get('x-subscription-token')]).toEqual(['Bearer a token', 's']);
});

test('of a channel without messages there is one page, and it is empty', async () => {
  await join();
  expect(await history.page()).toEqual({ messages: [], done: true });
});

describe('an archive that is behind', () => {
  test('is waited for, so that nothing between it and what comes live is missing', async () => {
    numbers(1, 5).forEach((n) => archive.publish(n));
    numbers(6, 8).forEach((n) => archive.publish(n, { late: true }));
    await join({ retryDelay: 50 });
    archive.publish(9, { late: true });
    const page = older();
    await soon(() => expect(archive.requests.length).toBeGreaterThan(2));
    archive.catchUp(2);
    const looks = archive.requests.length;
    await soon(() => expect(archive.requests.length).toBeGreaterThan(looks));
    expect(shown).toEqual([9]);
    archive.catchUp();
    await page;
    expect(shown).toEqual(numbers(1, 9));
  });

  test('for too long is told, and the page can be asked for again', async () => {
    archive.publish(1, { late: true });
    await join();
    await expect(history.page()).rejects.toMatchObject({ code: 1, temporary: true });
    expect(archive.requests).toHaveLength(20);
    archive.catchUp();
    await older();
    expect(shown).toEqual([1]);
  });

  test('by a whole epoch holds nothing that could be joined', async () => {
    archive.publish('old');
    server.forget('a b');
    server.publish('a b', 'new');
    await join();
    await expect(history.page()).rejects.toMatchObject({ code: 1 });
  });
});

test('messages of an earlier epoch come before those of this one', async () => {
  numbers(1, 3).forEach((n) => archive.publish(n));
  server.forget('a b');
  archive.epoch = "fake'";
  await join();
  archive.publish(4);
  await older();
  expect(shown).toEqual([1, 2, 3, 4]);
});

test('when the subscription could not recover, pages begin anew and have what it missed', async () => {
  client.close();
  begin(10);
  numbers(1, 3).forEach((n) => archive.publish(n));
  await join();
  await older();
  const again = new Seen('subscribed', (add) => sub.on('subscribed', ({ recovered }) => add(recovered)));
  server.cut();
  numbers(4, 30).forEach((n) => archive.publish(n));
  server.mend();
  expect(await again.count(1)).toEqual([false]);
  // The application draws anew.
  shown.length = 0;
  archive.publish(31);
  while (!(await older()));
  expect(shown).toEqual(numbers(1, 31));
});

test('a page that is under way when the subscription begins anew is asked for again', async () => {
  client.close();
  begin(2);
  archive.publish(1);
  let arrive: () => void = () => undefined;
  const slow: typeof fetch = (...request) =>
    new Promise<void>((resolve) => (arrive = resolve)).then(() => archive.fetch(...request));
  await join({ fetch: slow });
  const page = older();
  await settled();
  const again = new Seen('subscribed', (add) => sub.on('subscribed', ({ recovered }) => add(recovered)));
  server.cut();
  numbers(2, 6).forEach((n) => archive.publish(n));
  server.mend();
  expect(await again.count(1)).toEqual([false]);
  arrive();
  await settled();
  arrive();
  await page;
  expect(shown).toEqual(numbers(1, 6));
});

describe('what fails', () => {
  const problem = (status: number, detail: string): Response => Response.json({ code: 'x', title: 'X', detail }, { status });

  test('an expired token is replaced once', async () => {
    const tokens = ['old', 'new', 'newer'];
    await join({ getToken: () => tokens.shift() ?? '' });
    await history.page();
    archive.publish(1);
    history.close();
    history = new ChannelHistory(sub, { ...history.options });
    archive.refusals.push(problem(401, 'expired'), problem(401, 'still'));
    await expect(history.page()).rejects.toMatchObject({ code: 401, message: 'expired', temporary: false });
    expect(tokens).toEqual(['newer']);
    archive.refusals = [problem(401, 'expired')];
    expect((await history.page()).done).toBe(true);
    expect(archive.requests.at(-1)!.headers.get('authorization')).toBe('Bearer newer');
  });

  test.each([
    [403, 'not allowed', false],
    [429, 'slow down', true],
    [503, 'away', true],
  ])('status %i says whether it is worth another try', async (code, message, temporary) => {
    await join();
    archive.refusals.push(problem(code, message));
    await expect(history.page()).rejects.toMatchObject({ code, message, temporary });
    expect((await history.page()).done).toBe(true);
  });

  test('an answer that is no problem document has its status', async () => {
    await join();
    archive.refusals.push(new Response('<html>', { status: 502, statusText: 'Bad Gateway' }));
    await expect(history.page()).rejects.toMatchObject({ code: 502, message: 'Bad Gateway' });
  });

  test('a network that fails is temporary', async () => {
    await join({ fetch: () => Promise.reject(new TypeError('fetch failed')) });
    await expect(history.page()).rejects.toMatchObject({ code: 2, temporary: true });
  });

  test('a token callback that throws fails as that of the client does', async () => {
    const answers: (() => Promise<string>)[] = [
      () => Promise.reject(new Error('no session')),
      () => Promise.reject(new UnauthorizedError('not you')),
      () => Promise.resolve('a token'),
    ];
    await join({ getToken: () => answers.shift()!() });
    await expect(history.page()).rejects.toMatchObject({ name: 'BobolinkError', code: 5, temporary: true, cause: { message: 'no session' } });
    await expect(history.page()).rejects.toMatchObject({ name: 'UnauthorizedError', code: 101, message: 'not you', temporary: false });
    expect((await history.page()).done).toBe(true);
  });

  test.each(['<!doctype html>', 'null', '{}', '{"messages":[{"b64data":"?"}],"position":{}}'])(
    'an answer that is no page is named as such: %s',
    async (body) => {
      await join({ fetch: () => Promise.resolve(new Response(body)) });
      await expect(history.page()).rejects.toMatchObject({ name: 'BobolinkError', code: 6, temporary: false });
    },
  );

  test('an answer that breaks off is temporary', async () => {
    const body = new ReadableStream({ pull: (controller) => controller.error(new TypeError('terminated')) });
    await join({ fetch: () => Promise.resolve(new Response(body)) });
    await expect(history.page()).rejects.toMatchObject({ code: 2, temporary: true });
  });

  test('a client that ends for good ends what waits for its subscription', async () => {
    await join();
    server.disconnect(3500, 'invalid token');
    await expect(history.page()).rejects.toMatchObject({ code: 3500, temporary: false });
  });

  test('closing ends what is under way, also with the client', async () => {
    archive.publish(1, { late: true });
    await join({ retryDelay: 60_000 });
    const page = history.page();
    const failed = expect(page).rejects.toMatchObject({ code: 4 });
    await soon(() => expect(archive.requests).toHaveLength(1));
    client.close();
    await failed;
    await expect(history.page()).rejects.toMatchObject({ code: 4 });
  });
});
