// What `sdk-js/test/support/server.ts` is in Node.js, for a page: gateways that the test process starts and
// lines that it cuts, with clients on the browser's own WebSocket.

import { Client } from '../../../../sdk-js/src/index.js';
import { Seen } from '../../../../sdk-js/test/support/seen.js';

const IMPATIENT = { minReconnectDelay: 20, maxReconnectDelay: 200, timeout: 15_000 };

/** Has the test process do something. */
const ask = (what, ...args) => globalThis.askTestProcess(what, args);

/** The same, for what the suite wants at once. */
function askNow(what, ...args) {
  const request = new XMLHttpRequest();
  request.open('POST', `/ask/${what}`, false);
  request.send(JSON.stringify(args.filter((arg) => arg !== undefined)));
  if (request.status !== 200) throw new Error(request.responseText);
  return request.responseText;
}

export async function startGateway(client = {}, make = (endpoint, options) => new Client(endpoint, options), namespaces) {
  const gateway = await ask('start', client, namespaces);
  const clients = [];
  const lines = [];
  const add = (made) => void clients.push(made);
  return {
    port: gateway.port,
    async way() {
      const line = await ask('line', gateway.port);
      lines.push(line.id);
      return {
        client(options) {
          const made = make(line.endpoint, { ...IMPATIENT, ...options }, add);
          add(made);
          return made;
        },
        cut: () => ask('cut', line.id),
        mend: () => ask('mend', line.id),
      };
    },
    publish: (channel, data, tags) => ask('api', gateway.id, 'publish', { channel, data, tags }),
    disconnect: (user, code) => ask('api', gateway.id, 'disconnect', { user, disconnect: { code, reason: 'asked for' } }),
    unsubscribe: (user, channel) => ask('api', gateway.id, 'unsubscribe', { user, channel }),
    async history(channel) {
      const { publications } = await ask('api', gateway.id, 'history', { channel, limit: -1 });
      return publications.map(({ data }) => data);
    },
    token: (user, claims) => askNow('connectionToken', user, claims),
    subscriptionToken: (user, channel, claims) => askNow('subscriptionToken', user, channel, claims),
    async sweep() {
      clients.splice(0).forEach((made) => made.close());
      await Promise.all(lines.splice(0).map((id) => ask('closeLine', id)));
    },
    stop: () => ask('stop', gateway.id),
    restart: () => ask('restart', gateway.id),
  };
}

/** A WebSocket whose frames can be waited for; in those of bytes each byte counts as a character. */
export function watchedSocket() {
  const frames = [];
  const watchers = new Set();
  const saw = (direction, data) => {
    const frame = typeof data === 'string' ? data : String.fromCharCode(...new Uint8Array(data));
    frames.push([direction, frame]);
    watchers.forEach((watcher) => watcher(direction, frame));
  };
  class Watched extends WebSocket {
    constructor(...args) {
      super(...args);
      this.addEventListener('message', ({ data }) => saw('received', data));
    }

    send(frame) {
      saw('sent', frame);
      super.send(frame);
    }
  }
  const record = (wanted) => (text) =>
    new Seen(`frames ${wanted} with ${text.source}`, (add) => {
      const watcher = (direction, frame) => { if (direction === wanted && text.test(frame)) add(frame); };
      frames.forEach(([direction, frame]) => watcher(direction, frame));
      watchers.add(watcher);
    });
  return { websocket: Watched, sent: record('sent'), received: record('received') };
}
