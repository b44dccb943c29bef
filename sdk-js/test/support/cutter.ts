/** A TCP proxy that lets commands through and cuts the line when their replies come back. */

import { once } from 'node:events';
import net from 'node:net';

export class Cutter {
  readonly #sockets = new Set<net.Socket>();
  /** How often the line was cut. */
  cuts = 0;

  private constructor(
    readonly server: net.Server,
    readonly wanted: () => boolean,
  ) {}

  /**
   * Bytes of the server that hold `reply` do not pass if `wanted` says so: what they answer was done,
   * and nobody learns of it. Frames of the server are not masked, so they can be searched.
   */
  static async to(port: number, reply: string, wanted: () => boolean): Promise<Cutter> {
    const cutter = new Cutter(net.createServer((near) => cutter.#join(near, port, reply)), wanted);
    cutter.server.listen(0, '127.0.0.1');
    await once(cutter.server, 'listening');
    return cutter;
  }

  get endpoint(): string {
    return `ws://127.0.0.1:${(this.server.address() as net.AddressInfo).port}/connection/websocket`;
  }

  async close(): Promise<void> {
    this.#sockets.forEach((socket) => socket.destroy());
    this.server.close();
    await once(this.server, 'close');
  }

  #join(near: net.Socket, port: number, reply: string): void {
    const far = net.connect(port, '127.0.0.1');
    for (const [from, to] of [[near, far], [far, near]] as const) {
      this.#sockets.add(from);
      from.on('error', () => to.destroy());
      from.on('close', () => {
        this.#sockets.delete(from);
        to.destroy();
      });
    }
    near.pipe(far);
    far.on('data', (bytes) => {
      if (bytes.includes(reply) && this.wanted()) {
        this.cuts += 1;
        near.destroy();
        far.destroy();
      } else {
        near.write(bytes);
      }
    });
  }
}
