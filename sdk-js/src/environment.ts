/** What the SDK takes from the world around it; every part can be replaced. */

import type { Codec } from './codec.js';
import type { Undo } from './emitter.js';
import { webSocketTransport, type Transport, type WebSocketConstructor } from './transport.js';

/** Whatever a clock's `setTimeout` returns. */
export type TimerId = unknown;

export interface Clock {
  /** Milliseconds since some moment. */
  now(): number;
  setTimeout(run: () => void, ms: number): TimerId;
  clearTimeout(id: TimerId): void;
}

/** `visible` means that the page was brought to the front, where timers run again. */
export type NetworkEvent = 'online' | 'offline' | 'visible';

/** Listens to changes of the network until the returned function is called. */
export type Network = (listener: (event: NetworkEvent) => void) => Undo;

export interface Environment {
  clock: Clock;
  /** A number in [0, 1). */
  random: () => number;
  network: Network;
  transport: Transport;
}

/** What of it was replaced, and the real thing otherwise. */
export function environmentOf(
  given: Partial<Environment> & { websocket?: WebSocketConstructor },
  { subprotocol }: Codec,
): Environment {
  const { clock = systemClock, random = Math.random, network = pageNetwork, websocket } = given;
  return { clock, random, network, transport: given.transport ?? webSocketTransport(websocket, subprotocol) };
}

export const systemClock: Clock = {
  now: () => Date.now(),
  setTimeout: (run, ms) => setTimeout(run, ms),
  clearTimeout: (id) => clearTimeout(id as Parameters<typeof clearTimeout>[0]),
};

/** Events of the page or worker; where there are none (Node.js, React Native) it stays silent. */
export const pageNetwork: Network = (listener) => {
  const undo: Undo[] = [];
  const listen = (target: Partial<EventTarget> | undefined, name: string, heard: () => void): void => {
    target?.addEventListener?.(name, heard);
    undo.push(() => target?.removeEventListener?.(name, heard));
  };
  const page = typeof document === 'undefined' ? undefined : document;
  listen(globalThis, 'online', () => listener('online'));
  listen(globalThis, 'offline', () => listener('offline'));
  listen(page, 'visibilitychange', () => {
    if (page?.visibilityState === 'visible') {
      listener('visible');
    }
  });
  return () => undo.forEach((run) => run());
};
