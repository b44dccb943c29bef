// Ports for servers that are started by tests, shared out as `free_address` in
// src/drill/topology/process.rs does it: below those that the system picks for whoever asks for any,
// so that nobody takes one before its server listens or while that is down for a moment. They come in
// blocks, and who has the first port of a block has all of it.

import { once } from 'node:events';
import net from 'node:net';

const FIRST_PORT = 20_000;
const BLOCK = 200;
const BLOCKS = 60;

let block;
let given = 0;

/** A port on which nobody listens, and which nobody else is given meanwhile. */
export async function freePort() {
  block ??= claim();
  const first = await block;
  for (let tried = 1; tried < BLOCK; tried += 1) {
    given = (given % (BLOCK - 1)) + 1;
    const port = first + given;
    const server = await listen(port);
    if (server) {
      server.close();
      await once(server, 'close');
      return port;
    }
  }
  throw new Error(`no port is free from ${first} on`);
}

/** The first port of a block that nobody had, held for as long as the process lives. */
async function claim() {
  for (let step = 0; step < BLOCKS; step += 1) {
    // Not all processes begin to look at the same one.
    const port = FIRST_PORT + ((process.pid + step) % BLOCKS) * BLOCK;
    const server = await listen(port);
    if (server) {
      server.unref();
      return port;
    }
  }
  throw new Error(`no block of ports is free from ${FIRST_PORT} on`);
}

/** Listens on a port, unless somebody else does. */
async function listen(port) {
  const server = net.createServer().listen({ port, host: '127.0.0.1', exclusive: true });
  try {
    await once(server, 'listening');
    return server;
  } catch {
    return null;
  }
}
