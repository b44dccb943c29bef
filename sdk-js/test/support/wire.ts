/** The server's end of a client, played by the test, frame by frame. */

import { Client, type ClientOptions, type NetworkEvent, type TransportListener } from '../../src/index.js';
import type { Command, Reply } from '../../src/wire.js';
import { ManualClock, settled } from './clock.js';

/** A connection the client opened. */
export class Line {
  readonly frames: string[] = [];
  closed = false;

  constructor(readonly listener: TransportListener) {}

  /** Commands received, without pongs. */
  get commands(): Command[] {
    return this.frames.flatMap((frame) => frame.split('\n').map((line) => JSON.parse(line) as Command));
  }

  /** The newest command that has this request. */
  last<Verb extends keyof Command>(verb: Verb): { id: number; request: NonNullable<Command[Verb]> } {
    const command = this.commands.filter((command) => verb in command).at(-1);
    if (!command) {
      throw new Error(`no ${verb} was sent, but ${this.frames.join()}`);
    }
    return { id: command.id ?? 0, request: command[verb] as NonNullable<Command[Verb]> };
  }

  async reply(...replies: Reply[]): Promise<void> {
    this.listener.received(replies.map((reply) => JSON.stringify(reply)).join('\n'));
    await settled();
  }

  async open(): Promise<void> {
    this.listener.opened();
    await settled();
  }

  async close(code: number, reason = ''): Promise<void> {
    this.closed = true;
    this.listener.closed(code, reason);
    await settled();
  }
}

export class Stage {
  readonly clock = new ManualClock();
  readonly lines: Line[] = [];
  readonly client: Client;
  random = 0.5;
  /** Listeners to the network. */
  listeners = new Set<(event: NetworkEvent) => void>();
  /** Everything the client emitted, as `[event, what]`. */
  readonly events: [string, unknown][] = [];

  constructor(options: ClientOptions = {}) {
    this.client = new Client('ws://server.test/connection/websocket', {
      clock: this.clock,
      random: () => this.random,
      network: (listener) => {
        this.listeners.add(listener);
        return () => this.listeners.delete(listener);
      },
      transport: (_endpoint, listener) => {
        const line = new Line(listener);
        this.lines.push(line);
        return {
          send: (frame) => void line.frames.push(frame as string),
          close: () => {
            line.closed = true;
          },
        };
      },
      ...options,
    });
    for (const name of ['state', 'error', 'publication', 'message', 'join', 'leave', 'subscribed', 'subscribing', 'unsubscribed'] as const) {
      this.client.on(name, (event) => this.events.push([name, event]));
    }
  }

  /** The newest connection. */
  get line(): Line {
    const line = this.lines.at(-1);
    if (!line) {
      throw new Error('no connection was opened');
    }
    return line;
  }

  async network(event: NetworkEvent): Promise<void> {
    this.listeners.forEach((listener) => listener(event));
    await settled();
  }

  /** Lets a connecting client in. */
  async welcome(result: object = {}): Promise<void> {
    await this.line.open();
    await this.line.reply({ id: this.line.last('connect').id, connect: { client: 'c1', ...result } });
  }

  /** A connected client. */
  async connected(result: object = {}): Promise<this> {
    this.client.connect();
    await settled();
    await this.welcome(result);
    return this;
  }

  get states(): string[] {
    return this.events.flatMap(([name, event]) => (name === 'state' ? [(event as { name: string }).name] : []));
  }
}

/** Watches how a promise ends; `outcome` is 'pending' until it does. */
export function watch(promise: Promise<unknown>): { outcome: unknown } {
  const watched: { outcome: unknown } = { outcome: 'pending' };
  promise.then(
    (value) => (watched.outcome = { value }),
    (error: unknown) => (watched.outcome = { error }),
  );
  return watched;
}
