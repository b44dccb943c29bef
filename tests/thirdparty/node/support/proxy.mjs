// A TCP proxy whose line can be cut: what a lost network looks like to both sides.

import { once } from 'node:events';
import net from 'node:net';

export class Line {
  #server;
  #sockets = new Set();
  #whole = true;
  #port;
  /** Bytes that came from the server. */
  received = 0;

  static async to(port) {
    const line = new Line();
    line.#port = port;
    line.#server = net.createServer((near) => line.#join(near));
    line.#server.listen(0, '127.0.0.1');
    await once(line.#server, 'listening');
    return line;
  }

  get endpoint() {
    return `ws://127.0.0.1:${this.#server.address().port}/connection/websocket`;
  }

  /** Breaks every connection and refuses new ones until `mend`. */
  cut() {
    this.#whole = false;
    this.#sockets.forEach((socket) => socket.destroy());
  }

  /** Lets connections through again, to another server if `port` is given. */
  mend(port = this.#port) {
    this.#port = port;
    this.#whole = true;
  }

  async close() {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #join(near) {
    if (!this.#whole) {
      near.destroy();
      return;
    }
    const far = net.connect(this.#port, '127.0.0.1');
    far.on('data', (bytes) => (this.received += bytes.length));
    for (const [from, to] of [[near, far], [far, near]]) {
      this.#sockets.add(from);
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
  }
}
