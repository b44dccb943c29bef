/**
 * One connection for all tabs of an origin. Each tab has a `Client` like any other; one of them, which
 * Web Locks elect, holds the connection, and when it is closed the next one takes over and every tab
 * recovers from where it is.
 */

import { Client } from './client.js';
import { json, type Codec } from './codec.js';
import { environmentOf, pageNetwork } from './environment.js';
import { settingsOf } from './machines/connection.js';
import type { ClientOptions } from './options.js';
import type { DeltaCodec } from './publication.js';
import { pageMeans, Tab, type TabMeans } from './tab.js';
import { Hub, NO_TOKEN, type HubSettings, type Letter } from './tabs/hub.js';
import type { Transport, TransportListener } from './transport.js';

export type { ChannelLike, LocksLike, TabMeans } from './tab.js';

export interface SharedClientOptions extends ClientOptions {
  /**
   * Tabs with the same name share a connection; the endpoint by default. Put the user into it where
   * tabs may be of different ones.
   */
  name?: string;
  /** Let publications come as patches over the shared connection; subscriptions need not ask for it. */
  delta?: DeltaCodec;
  /** Called when this tab comes to hold the connection. */
  onLead?: () => void;
  /** How tabs find each other; by default Web Locks and BroadcastChannel. Without them every tab is alone. */
  tabs?: TabMeans;
}

/**
 * A client whose connection is shared with other tabs. Tokens are asked for in the tab that needs one.
 * Of a channel that several tabs have, all have the same `tagsFilter`.
 */
export function sharedClient<Channels extends object = Record<string, unknown>>(
  endpoint: string,
  options: SharedClientOptions = {},
): Client<Channels> {
  const { getToken, network = pageNetwork, codec = json } = options;
  const line = new Line(endpoint, options, codec);
  const client: Client<Channels> = new Client(endpoint, {
    ...options,
    codec: json,
    transport: line.transport,
    // A tab that waits to try again does so at once when there is a connection.
    network(listener) {
      const undo = network(listener);
      line.onUp = () => listener('online');
      return undo;
    },
    getToken:
      getToken &&
      (async () => {
        const isRefresh = client.state.name === 'connected';
        return isRefresh || (await line.needsToken()) ? getToken() : NO_TOKEN;
      }),
  });
  client.on('closed', () => line.close());
  return client;
}

interface Wire {
  listener: TransportListener;
  opened: boolean;
}

/** A tab's way to the leader, which may be itself. */
class Line {
  onUp: (() => void) | undefined;
  readonly #wires = new Map<string, Wire>();
  readonly #questions = new Map<string, (needs: boolean) => void>();
  readonly #tab: Tab<Letter>;
  #hub: Hub | undefined;

  constructor(endpoint: string, options: SharedClientOptions, codec: Codec) {
    const { delta } = options;
    const settings: HubSettings = { endpoint, environment: environmentOf(options, codec), codec, delta, ...settingsOf(options) };
    this.#tab = new Tab(`bobolink:${options.name ?? endpoint}`, options.tabs ?? pageMeans(), {
      leads: () => {
        this.#hub = new Hub(settings, (letter) => this.#toTabs(letter));
        options.onLead?.();
        this.#toTabs({ type: 'leader', wire: '' });
      },
      heard: (letter) => this.#heard(letter),
    });
  }

  readonly transport: Transport = (_endpoint, listener) => {
    const wire = name();
    this.#wires.set(wire, { listener, opened: false });
    this.#toLeader({ type: 'open', wire });
    return {
      send: (frame) => this.#toLeader({ type: 'say', wire, frame: frame as string }),
      close: () => {
        if (this.#wires.delete(wire)) {
          this.#toLeader({ type: 'leave', wire });
        }
      },
    };
  };

  /** Answered once there is a leader. */
  needsToken(): Promise<boolean> {
    const wire = name();
    return new Promise((resolve) => {
      this.#questions.set(wire, resolve);
      this.#toLeader({ type: 'ask', wire });
    });
  }

  close(): void {
    this.#hub?.close();
    this.#hub = undefined;
    this.#tab.close();
  }

  /** In order, and never while the sender is still at work. */
  #toLeader(letter: Letter): void {
    if (this.#hub) {
      queueMicrotask(() => this.#heard(letter));
    } else {
      this.#tab.tell(letter);
    }
  }

  #toTabs(letter: Letter): void {
    const { type, wire } = letter;
    const isOurs = this.#wires.has(wire) || this.#questions.has(wire);
    if (!isOurs) {
      this.#tab.tell(letter);
    }
    if (isOurs || type === 'leader' || type === 'up') {
      queueMicrotask(() => this.#heard(letter));
    }
  }

  #heard({ type, wire, frame = '', code = 0, reason = '', needs = true }: Letter): void {
    const { listener } = this.#wires.get(wire) ?? {};
    switch (type) {
      case 'open':
        return this.#hub?.open(wire);
      case 'say':
        return this.#hub?.received(wire, frame);
      case 'leave':
        return this.#hub?.left(wire);
      case 'ask':
        return this.#hub && this.#toTabs({ type: 'told', wire, needs: this.#hub.needsToken });
      case 'opened':
        this.#wires.set(wire, { listener, opened: true } as Wire);
        return listener?.opened();
      case 'heard':
        return listener?.received(frame);
      case 'closed':
        this.#wires.delete(wire);
        return listener?.closed(code, reason);
      case 'told':
        this.#questions.get(wire)?.(needs);
        this.#questions.delete(wire);
        return;
      case 'up':
        return this.onUp?.();
      case 'leader':
        return this.#follow();
    }
  }

  /** There is a new leader, which knows of nothing. */
  #follow(): void {
    this.#questions.forEach((_, wire) => this.#toLeader({ type: 'ask', wire }));
    for (const [wire, { opened }] of [...this.#wires]) {
      if (opened) {
        this.#heard({ type: 'closed', wire, code: 1006 });
      } else {
        this.#toLeader({ type: 'open', wire });
      }
    }
    this.onUp?.();
  }
}

function name(): string {
  return Math.random().toString(36);
}
