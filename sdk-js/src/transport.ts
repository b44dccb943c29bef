/** How frames get to the server and back. */

import type { Frame } from './codec.js';
import { BobolinkError, ErrorCode } from './errors.js';

/** What a transport calls. `closed` comes at most once, and nothing comes after it. */
export interface TransportListener {
  opened(): void;
  received(frame: Frame): void;
  closed(code: number, reason: string): void;
}

export interface Socket {
  send(frame: Frame): void;
  /** Ends the connection. The listener hears nothing any more. */
  close(): void;
}

/** Opens a connection. It may throw; that counts as a failed attempt. */
export type Transport = (endpoint: string, listener: TransportListener) => Socket;

/** The part of the standard WebSocket that the SDK uses. */
export interface WebSocketLike {
  onopen: unknown;
  onmessage: unknown;
  onerror: unknown;
  onclose: unknown;
  binaryType?: unknown;
  send(data: Frame): void;
  close(code?: number, reason?: string): void;
}

export type WebSocketConstructor = new (endpoint: string, subprotocol?: string) => WebSocketLike;

/** A closed socket without a close frame; what browsers report then. */
const ABNORMAL = 1006;

/** WebSocket, by default the global one. */
export function webSocketTransport(constructor?: WebSocketConstructor, subprotocol?: string): Transport {
  return (endpoint, listener) => {
    const Constructor = constructor ?? (globalThis as { WebSocket?: WebSocketConstructor }).WebSocket;
    if (!Constructor) {
      throw new BobolinkError(
        ErrorCode.disconnected,
        'no global WebSocket: give that of "ws" as the option "websocket"',
      );
    }
    const socket = new Constructor(endpoint, subprotocol);
    const ignore = (): void => undefined;
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => listener.opened();
    socket.onmessage = ({ data }: { data: string | ArrayBuffer }) =>
      listener.received(typeof data === 'string' ? data : new Uint8Array(data));
    // What follows an error is a close; without a listener some implementations would throw.
    socket.onerror = ignore;
    socket.onclose = ({ code, reason }: { code?: number; reason?: string }) =>
      listener.closed(code ?? ABNORMAL, reason ?? '');
    return {
      send: (frame) => socket.send(frame),
      close() {
        socket.onopen = socket.onmessage = socket.onclose = ignore;
        socket.close();
      },
    };
  };
}
