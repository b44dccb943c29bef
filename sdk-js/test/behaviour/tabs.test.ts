/** The behaviour suite in a tab whose connection is held by another one. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import { sharedClient } from '../../src/tabs.js';
import { Seen } from '../support/seen.js';
import { impatient, startFake, startGateway, type Make, type Server } from '../support/server.js';
import { FakeBrowser } from '../support/tabs.js';
import { away, numbers, publishNumbers, scenarios, unique } from './scenarios.js';

const inSecondTab: Make = (endpoint, options, add) => {
  const browser = new FakeBrowser();
  add(sharedClient(endpoint, { ...options, tabs: browser.tab().means }));
  return sharedClient(endpoint, { ...options, tabs: browser.tab().means });
};

scenarios('a tab, and FakeServer', () => startFake(inSecondTab));
scenarios('a tab, and the gateway', () => startGateway({}, inSecondTab));

describe('subscriptions that the server makes', () => {
  let server: Server;
  beforeAll(async () => {
    server = await startGateway({}, inSecondTab);
  });
  afterEach(() => server.sweep());
  afterAll(() => server.stop());

  test('are the tab\'s too, and recover', async () => {
    const channel = unique();
    const way = await server.way();
    const client = way.client({ token: server.token('anna', { channels: [channel] }) });
    const heard = new Seen('publication', (add) => client.on('publication', (publication) => add(publication.data)));
    const subscribed = new Seen('subscribed', (add) => client.on('subscribed', add));
    client.connect();
    await subscribed.count(1);
    await publishNumbers(server, channel, 1, 3);
    await heard.count(3);
    await away(way, client, () => publishNumbers(server, channel, 4, 10));
    expect((await subscribed.count(2))[1]).toMatchObject({ channel, recovered: true });
    expect(await heard.count(10)).toEqual(numbers(1, 10));
  });

  test('are ended for all tabs by one', async () => {
    const [ended, kept] = [unique(), unique()];
    const options = { token: server.token('anna', { channels: [ended, kept] }) };
    const browser = new FakeBrowser();
    const endpoint = `ws://127.0.0.1:${server.port}/connection/websocket`;
    const tabs = [1, 2].map(() => sharedClient(endpoint, { ...impatient(options), tabs: browser.tab().means }));
    const gone = tabs.map((tab) => new Seen('unsubscribed', (add) => tab.on('unsubscribed', ({ channel }) => add(channel))));
    const heard = tabs.map((tab) => new Seen('publication', (add) => tab.on('publication', ({ channel }) => add(channel))));
    await Promise.all(tabs.map((tab) => tab.connect().ready()));
    await tabs[1]!.unsubscribe(ended);
    await Promise.all(gone.map((one) => one.count(1)));
    await server.publish(ended, 1);
    await server.publish(kept, 2);
    expect(await Promise.all(heard.map((one) => one.count(1)))).toEqual([[kept], [kept]]);
    expect(gone.map(({ items }) => items)).toEqual([[ended], [ended]]);
    tabs.forEach((tab) => tab.close());
  });
});
