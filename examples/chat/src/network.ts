/** The network of the page, with a switch that pretends there is none. */

import type { Network, NetworkEvent } from '@bobolink/client';

/** Tabs share a connection, so they are offline together, as they are when a cable is pulled. */
const TABS = 'bobolink-chat-network';

export class NetworkSwitch {
  readonly #listeners = new Set<(event: NetworkEvent) => void>();
  readonly #tabs = new BroadcastChannel(TABS);
  #off = false;

  constructor(readonly changed: () => void) {
    this.#tabs.onmessage = ({ data }: { data: unknown }) => this.#set(data === 'off');
  }

  /** Whether it pretends. */
  get off(): boolean {
    return this.#off;
  }

  /** To be given to a client. */
  readonly listen: Network = (listener) => {
    const page: [EventTarget, string, () => unknown][] = [
      [window, 'online', () => listener('online')],
      [window, 'offline', () => listener('offline')],
      [document, 'visibilitychange', () => document.visibilityState === 'visible' && listener('visible')],
    ];
    const undo = page.map(([target, name, heard]) => {
      const unlessOff = (): unknown => this.#off || heard();
      target.addEventListener(name, unlessOff);
      return () => target.removeEventListener(name, unlessOff);
    });
    this.#listeners.add(listener);
    return () => {
      this.#listeners.delete(listener);
      undo.forEach((run) => run());
    };
  };

  turn(off: boolean): void {
    this.#tabs.postMessage(off ? 'off' : 'on');
    this.#set(off);
  }

  close(): void {
    this.#tabs.close();
  }

  #set(off: boolean): void {
    this.#off = off;
    const event = off || !navigator.onLine ? 'offline' : 'online';
    this.#listeners.forEach((tell) => tell(event));
    this.changed();
  }
}
