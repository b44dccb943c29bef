/** The seams to the world: page events, sockets, and one thing at a time. */

import { afterEach, describe, expect, test, vi } from 'vitest';

import { pageNetwork } from '../src/environment.js';
import { Mailbox } from '../src/mailbox.js';
import { webSocketTransport, type TransportListener, type WebSocketLike } from '../src/transport.js';

afterEach(() => vi.unstubAllGlobals());

/** Something with events that knows who listens. */
class Target {
  readonly listeners: [string, () => void][] = [];
  visibilityState = 'visible';

  addEventListener = (name: string, listener: () => void): void => void this.listeners.push([name, listener]);

  removeEventListener = (name: string, listener: () => void): void => {
    const at = this.listeners.findIndex(([known, own]) => known === name && own === listener);
    this.listeners.splice(at, 1);
  };

  fire(name: string): void {
    this.listeners.filter(([known]) => known === name).forEach(([, listener]) => listener());
  }
}

describe('the network of a page', () => {
  test('tells of it until nobody wants to know', () => {
    const [window, document] = [new Target(), new Target()];
    vi.stubGlobal('addEventListener', window.addEventListener);
    vi.stubGlobal('removeEventListener', window.removeEventListener);
    vi.stubGlobal('document', document);
    const heard: string[] = [];
    const stop = pageNetwork((event) => heard.push(event));
    window.fire('offline');
    window.fire('online');
    document.fire('visibilitychange');
    document.visibilityState = 'hidden';
    document.fire('visibilitychange');
    expect(heard).toEqual(['offline', 'online', 'visible']);
    stop();
    expect([window.listeners, document.listeners]).toEqual([[], []]);
  });

  test('is silent where there is no page', () => {
    vi.stubGlobal('addEventListener', undefined);
    expect(() => pageNetwork(() => undefined)()).not.toThrow();
  });
});

describe('a WebSocket', () => {
  class Socket implements WebSocketLike {
    static last: Socket;
    onopen: unknown;
    onmessage: unknown;
    onerror: unknown;
    onclose: unknown;
    sent: string[] = [];
    closed = false;

    constructor(readonly endpoint: string) {
      Socket.last = this;
    }

    send(data: string): void {
      this.sent.push(data);
    }

    close(): void {
      this.closed = true;
    }

    fire(handler: unknown, event: object = {}): void {
      (handler as (event: object) => void)(event);
    }
  }

  function listener(): TransportListener & { heard: unknown[] } {
    const heard: unknown[] = [];
    return {
      heard,
      opened: () => void heard.push('opened'),
      received: (frame) => void heard.push(frame),
      closed: (code, reason) => void heard.push([code, reason]),
    };
  }

  test('hands on what comes', () => {
    const { heard, ...rest } = listener();
    const socket = webSocketTransport(Socket)('ws://x', rest);
    const { last } = Socket;
    last.fire(last.onopen);
    last.fire(last.onmessage, { data: '{}' });
    last.fire(last.onerror);
    last.fire(last.onclose, { code: 3001, reason: 'shutdown' });
    last.fire(last.onclose);
    socket.send('frame');
    expect(heard).toEqual(['opened', '{}', [3001, 'shutdown'], [1006, '']]);
    expect([last.endpoint, last.sent]).toEqual(['ws://x', ['frame']]);
  });

  test('is not heard of any more once it is closed, and its errors have somewhere to go', () => {
    const { heard, ...rest } = listener();
    webSocketTransport(Socket)('ws://x', rest).close();
    const { last } = Socket;
    [last.onopen, last.onmessage, last.onerror, last.onclose].forEach((handler) => last.fire(handler, { data: 'x' }));
    expect(heard).toEqual([]);
    expect(last.closed).toBe(true);
  });
});

describe('the mailbox', () => {
  test('finishes one thing before it begins what that asked for', () => {
    const mailbox = new Mailbox(() => undefined);
    const order: string[] = [];
    mailbox.post(() => {
      mailbox.post(() => order.push('second'));
      order.push('first');
    });
    expect(order).toEqual(['first', 'second']);
  });

  test('goes on after a failure', () => {
    const failed = vi.fn();
    const mailbox = new Mailbox(failed);
    const next = vi.fn();
    mailbox.post(() => {
      mailbox.post(next);
      throw new Error('mine');
    });
    expect(failed).toHaveBeenCalledWith(new Error('mine'));
    expect(next).toHaveBeenCalled();
  });
});
