/** Servers that the behaviour suite runs against: the gateway's binary, and the fake one. */

import WebSocket from 'ws';

import { Client, type ClientOptions, type WebSocketConstructor } from '../../src/index.js';
import { FakeServer } from '../../src/testing.js';
import { Seen } from './seen.js';

/** A way to a server that can be cut. */
export interface Way {
  client(options?: ClientOptions): Client;
  cut: () => void;
  mend: () => void;
}

export interface Server {
  /** Of the gateway on this machine; 0 for the fake one. */
  port: number;
  /** Closes the clients made here by itself after the test. */
  way(): Promise<Way>;
  /** The data of everything in a channel's stream. */
  history(channel: string): Promise<unknown[]>;
  publish(channel: string, data: unknown, tags?: Record<string, string>): Promise<void>;
  /** Closes the connections of a user. */
  disconnect(user: string, code: number): Promise<void>;
  unsubscribe(user: string, channel: string): Promise<void>;
  /** A token for this user. */
  token: (user: string, claims?: TokenClaims) => string;
  subscriptionToken: (user: string, channel: string, claims?: TokenClaims) => string;
  /** Closes everything that was made for a test. */
  sweep(): Promise<void>;
  stop(): Promise<void>;
  /** Ends the process and starts another that knows nothing of what was. */
  restart(): Promise<void>;
}

interface TokenClaims {
  /** Seconds; negative for a token that has expired. */
  ttl?: number;
  channels?: string[];
}

/**
 * Back soon, but spread, so that what depends on order would show. An answer may take as long as the tests wait:
 * giving up on a machine that only stands still would look like a lost connection.
 */
const IMPATIENT: ClientOptions = { minReconnectDelay: 20, maxReconnectDelay: 200, timeout: 15_000 };

/** Makes clients; those that it needs besides are closed when `add` says so. */
export type Make = (endpoint: string, options: ClientOptions, add: (client: Client) => void) => Client;

const plain: Make = (endpoint, options) => new Client(endpoint, options);

export function impatientClient(endpoint: string, options?: ClientOptions): Client {
  return new Client(endpoint, impatient(options));
}

/** What every client here is told. */
export function impatient(options?: ClientOptions): ClientOptions {
  return { ...IMPATIENT, websocket: WebSocket, ...options };
}

interface SpawnedGateway {
  port: number;
  publish(channel: string, data: unknown, options: object): Promise<unknown>;
  api(method: string, params: object): Promise<unknown>;
  restart(): Promise<void>;
  stop(): Promise<void>;
}

interface CuttableLine {
  endpoint: string;
  cut(): void;
  mend(): void;
  close(): Promise<void>;
}

interface Support {
  Gateway: { start(options?: { client?: object; namespaces?: object[] }): Promise<SpawnedGateway> };
  Line: { to(port: number): Promise<CuttableLine> };
  connectionToken: (user: string, claims?: object) => string;
  subscriptionToken: (user: string, channel: string, claims?: object) => string;
}

/** The means of the third-party suite, which spawns gateways with namespaces for every occasion. */
async function support(): Promise<Support> {
  const folder = new URL('../../../tests/thirdparty/node/support/', import.meta.url);
  const modules = await Promise.all(
    ['gateway', 'proxy', 'tokens'].map((name) => import(new URL(`${name}.mjs`, folder).href) as Promise<object>),
  );
  return Object.assign({}, ...modules) as Support;
}

/** A WebSocket whose frames can be waited for; in those of bytes each byte counts as a character. */
export function watchedSocket(): {
  websocket: WebSocketConstructor;
  sent: (text: RegExp) => Seen<string>;
  received: (text: RegExp) => Seen<string>;
} {
  const frames: [direction: string, frame: string][] = [];
  const watchers = new Set<(direction: string, frame: string) => void>();
  const saw = (direction: string, frame: string): void => {
    frames.push([direction, frame]);
    watchers.forEach((watcher) => watcher(direction, frame));
  };
  class Watched extends WebSocket {
    constructor(endpoint: string, subprotocol?: string) {
      super(endpoint, subprotocol);
      this.on('message', (frame: Buffer | ArrayBuffer) => saw('received', Buffer.from(frame as Buffer).toString('latin1')));
    }

    override send(frame: string | Uint8Array): void {
      saw('sent', Buffer.from(frame as Uint8Array).toString('latin1'));
      super.send(frame);
    }
  }
  const record = (wanted: string) => (text: RegExp): Seen<string> =>
    new Seen(`frames ${wanted} with ${text.source}`, (add) => {
      const watcher = (direction: string, frame: string): void => {
        if (direction === wanted && text.test(frame)) add(frame);
      };
      frames.forEach(([direction, frame]) => watcher(direction, frame));
      watchers.add(watcher);
      return undefined;
    });
  return {
    websocket: Watched,
    sent: record('sent'),
    received: record('received'),
  };
}

/** `client` is that section of its configuration; `namespaces` stand for those that the suites share. */
export async function startGateway(client: object = {}, make = plain, namespaces?: object[]): Promise<Server> {
  const { Gateway, Line, connectionToken, subscriptionToken } = await support();
  const gateway = await Gateway.start({ client, namespaces });
  const lines: CuttableLine[] = [];
  const clients: Client[] = [];
  return {
    port: gateway.port,
    async way() {
      const line = await Line.to(gateway.port);
      lines.push(line);
      return {
        client(options) {
          const add = (client: Client): void => void clients.push(client);
          const client = make(line.endpoint, impatient(options), add);
          add(client);
          return client;
        },
        cut: () => line.cut(),
        mend: () => line.mend(),
      };
    },
    async history(channel) {
      const { publications } = (await gateway.api('history', { channel, limit: -1 })) as {
        publications: { data: unknown }[];
      };
      return publications.map(({ data }) => data);
    },
    async publish(channel, data, tags) {
      await gateway.publish(channel, data, { tags });
    },
    async disconnect(user, code) {
      await gateway.api('disconnect', { user, disconnect: { code, reason: 'asked for' } });
    },
    async unsubscribe(user, channel) {
      await gateway.api('unsubscribe', { user, channel });
    },
    token: connectionToken,
    subscriptionToken,
    async sweep() {
      clients.splice(0).forEach((client) => client.close());
      await Promise.all(lines.splice(0).map((line) => line.close()));
    },
    stop: () => gateway.stop(),
    restart: () => gateway.restart(),
  };
}

export function startFake(make = plain): Promise<Server> {
  const server = new FakeServer();
  const clients: Client[] = [];
  const done = (): Promise<void> => Promise.resolve();
  return Promise.resolve({
    port: 0,
    way: () =>
      Promise.resolve({
        client(options) {
          const add = (client: Client): void => void clients.push(client);
          const client = make('ws://fake', { ...IMPATIENT, transport: server.transport, ...options }, add);
          add(client);
          return client;
        },
        cut: () => server.cut(),
        mend: () => server.mend(),
      }),
    history: (channel) => Promise.resolve(server.history(channel).map(({ data }) => data)),
    publish(channel, data, tags) {
      server.publish(channel, data, { tags });
      return done();
    },
    disconnect(_user, code) {
      server.disconnect(code, 'asked for');
      return done();
    },
    unsubscribe(_user, channel) {
      server.unsubscribe(channel);
      return done();
    },
    token: (user) => user,
    subscriptionToken: (_user, channel) => channel,
    sweep() {
      clients.splice(0).forEach((client) => client.close());
      server.mend();
      return done();
    },
    stop: done,
    restart: done,
  });
}
