/** The behaviour suite in a tab whose connection is held by another one. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import { sharedClient } from '../../src/tabs.js';
import { Seen } from '../support/seen.js';
import { startFake, startGateway, type Make, type Server } from '../support/server.js';
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
});
