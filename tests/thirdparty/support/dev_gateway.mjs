// A gateway as `make start` runs it, in a folder of its own and on a port that the system picks.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

const PATIENCE_MS = 20_000;

export class DevGateway {
  #child;
  #folder;

  /** Starts it and waits for its greeting. */
  static async start() {
    const binary = process.env.GATEWAY_BIN;
    assert.ok(binary, 'GATEWAY_BIN must name the binary');
    const gateway = new DevGateway();
    gateway.#folder = await mkdtemp(path.join(os.tmpdir(), 'bobolink-dev-'));
    const args = ['serve', '--dev', '--http_server.port', '0'];
    gateway.#child = spawn(binary, args, { cwd: gateway.#folder, stdio: ['ignore', 'pipe', 'ignore'] });
    const greeting = await greetingOf(gateway.#child);
    gateway.url = greeting.match(/Playground +(\S+?)\/\n/)[1];
    gateway.apiKey = greeting.match(/API key +(\S+)/)[1];
    gateway.token = greeting.match(/Token +(\S+)/)[1];
    return gateway;
  }

  async stop() {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    const [code] = await ended;
    await rm(this.#folder, { recursive: true, force: true });
    assert.equal(code, 0);
  }
}

/** What the gateway prints before it is ready to be used. */
async function greetingOf(child) {
  const late = AbortSignal.timeout(PATIENCE_MS);
  let text = '';
  child.stdout.setEncoding('utf8');
  for (;;) {
    const [chunk] = await once(child.stdout, 'data', { signal: late });
    text += chunk;
    if (/Secrets are kept/.test(text)) return text;
  }
}
