// What gateways that are several share: a Redis, and a MongoDB replica set or what stands in for it.
// Each is a process of its own on free ports, with its data in a temporary folder.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

import { atExit } from '../../support/exit.mjs';
import { freePort } from '../../support/ports.mjs';
import { within } from './waiting.mjs';

const START_MS = 60_000;
const STOP_MS = 30_000;

/** A Redis that keeps nothing on its disk. */
export async function startRedis() {
  const port = await freePort();
  const flags = ['--port', port, '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no'];
  const server = await Server.start('redis-server', (folder) => [...flags, '--dir', folder], port);
  server.engine = { type: 'redis', redis: { address: `127.0.0.1:${port}` } };
  return server;
}

/** A MongoDB replica set of three, as tests/replica_set has it: the example of that name. */
export async function startReplicaSet() {
  const ports = [await freePort(), await freePort(), await freePort()];
  const control = await freePort();
  const members = ports.map((port) => `127.0.0.1:${port}`).join(',');
  const program = path.join(path.dirname(process.env.GATEWAY_BIN), 'examples', 'replica_set');
  const flags = ['--members', members, '--control', `127.0.0.1:${control}`];
  // The script's port is the last to be opened.
  const server = await Server.start(program, (folder) => [...flags, '--folder', folder], control);
  server.uri = `mongodb://${members}/?replicaSet=main`;
  return server;
}

class Server {
  #child;
  #folder;
  #log = '';

  /** Starts a program and waits until it listens on `port`. */
  static async start(program, flags, port) {
    const server = new Server();
    server.#folder = await mkdtemp(path.join(os.tmpdir(), 'bobolink-'));
    const args = flags(server.#folder).map(String);
    const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    server.#child = child;
    for (const stream of [child.stdout, child.stderr]) {
      stream.on('data', (text) => (server.#log = (server.#log + text).slice(-4_000)));
    }
    // Not killed: it has to end what it has started itself.
    atExit(() => child.kill('SIGTERM'));
    const failed = new Promise((_, reject) => {
      const fail = (why) => reject(new Error(`${program}: ${why}\n${server.#log}`));
      child.once('error', (error) => fail(error.message));
      child.once('exit', (code) => fail(`ended with code ${code}`));
    });
    failed.catch(() => {});
    await within(START_MS, `${program} to listen`, Promise.race([failed, listening(port)]));
    return server;
  }

  async stop() {
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      await within(STOP_MS, 'a server to stop on SIGTERM', ended);
    }
    await rm(this.#folder, { recursive: true, force: true });
  }
}

async function listening(port) {
  const signal = AbortSignal.timeout(START_MS);
  while (!signal.aborted) {
    const socket = net.connect(port, '127.0.0.1');
    const isOpen = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (isOpen) {
      return;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
