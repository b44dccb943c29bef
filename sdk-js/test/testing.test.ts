/** What FakeServer offers beyond the behaviour suite. */

import { afterEach, expect, test, vi } from 'vitest';

import { BobolinkError, Client, type ClientOptions } from '../src/index.js';
import { FakeServer, type FakeServerOptions } from '../src/testing.js';

const clients: Client[] = [];

afterEach(() => clients.splice(0).forEach((client) => client.close()));

function start(options: FakeServerOptions = {}, clientOptions: ClientOptions = {}): { server: FakeServer; client: Client } {
  const server = new FakeServer(options);
  const client = new Client('ws://fake', { transport: server.transport, maxReconnectDelay: 0, ...clientOptions }).connect();
  clients.push(client);
  return { server, client };
}

test('answers calls, and fails them as told', async () => {
  const rpc = (method: string, data: unknown): unknown => {
    if (method === 'double') return (data as number) * 2;
    throw new BobolinkError(404, 'no such method', true);
  };
  const { client } = start({ rpc });
  expect(await client.rpc('double', 21)).toBe(42);
  await expect(client.rpc('other')).rejects.toMatchObject({ code: 404, message: 'no such method', temporary: true });
});

test('refuses connections by error and by close code', async () => {
  const authenticate = (token: string): string => {
    if (token === 'expired') throw new BobolinkError(109, 'token expired');
    if (token === 'forged') throw new BobolinkError(3500, 'invalid token');
    return token;
  };
  const { client } = start({ authenticate }, { token: 'expired', getToken: () => 'good' });
  await client.ready();
  const { client: forged } = start({ authenticate }, { token: 'forged' });
  await expect(forged.ready()).rejects.toMatchObject({ code: 3500 });
});

test('refuses subscriptions', async () => {
  const authorize = (): void => {
    throw new BobolinkError(103, 'permission denied');
  };
  const { client } = start({ authorize });
  await expect(client.subscription('a').subscribe().ready()).rejects.toMatchObject({ code: 103 });
});

test('knows who is there, and tells who comes and goes', async () => {
  const { server, client } = start({}, { token: 'anna' });
  const sub = client.subscription('a', { joinLeave: true });
  const moves: string[] = [];
  sub.on('join', ({ user }) => moves.push(`join ${user}`));
  sub.on('leave', ({ user }) => moves.push(`leave ${user}`));
  await sub.subscribe().ready();
  const bert = new Client('ws://fake', { transport: server.transport, token: 'bert' }).connect();
  await bert.subscription('a').subscribe().ready();
  expect(Object.values(await sub.presence()).map(({ user }) => user)).toEqual(['anna', 'bert']);
  expect(await client.presenceStats('a')).toEqual({ clients: 2, users: 2 });
  bert.close();
  await client.presence('a');
  expect(moves).toEqual(['join anna', 'join bert', 'leave bert']);
  expect(server.connections).toBe(1);
});

test('pings when told to, and counts the answers', async () => {
  const { server, client } = start({ ping: 25 });
  await client.ready();
  server.ping();
  await client.presence('a');
  expect(server.pongs).toBe(1);
});

test('what is forgotten cannot be recovered', async () => {
  const { server, client } = start();
  const sub = client.subscription('a').subscribe();
  await sub.ready();
  server.publish('a', 1);
  server.forget('a');
  const again = new Promise((resolve) => sub.on('subscribed', resolve));
  server.disconnect(3011, 'force reconnect');
  expect(await again).toMatchObject({ wasRecovering: true, recovered: false });
});

test('works with the fake clock of a test runner', async () => {
  vi.useFakeTimers();
  const { client } = start();
  await client.ready();
  expect(client.state.name).toBe('connected');
  client.close();
  expect(vi.getTimerCount()).toBe(0);
  vi.useRealTimers();
});
