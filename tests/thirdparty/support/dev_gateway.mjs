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
  #settings;

  /** Starts it with these environment variables, and waits for its greeting. */
  static async start(settings = {}) {
    const gateway = new DevGateway();
    gateway.#settings = settings;
    gateway.#folder = await mkdtemp(path.join(os.tmpdir(), 'bobolink-dev-'));
    await gateway.#run('0');
    return gateway;
  }

  /** Ends the process at once, as a power cut would: nobody is told, and what was in memory is gone. */
  async kill() {
    const ended = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await ended;
    this.#child = undefined;
  }

  /** Lets a killed one forget every message. */
  async forget() {
    for (const ending of ['', '-wal', '-shm']) await rm(path.join(this.#folder, `.bobolink/history.db${ending}`), { force: true });
  }

  /** Starts a killed one again, on its port and with its secrets. */
  async restart() {
    await this.#run(new URL(this.url).port);
  }

  /** Calls a method of the server API. */
  async api(method, params) {
    const headers = { 'X-API-Key': this.apiKey };
    const response = await fetch(`${this.url}/api/${method}`, { method: 'POST', headers, body: JSON.stringify(params) });
    assert.equal(response.status, 200);
    const { result, error } = await response.json();
    assert.equal(error, undefined);
    return result;
  }

  async stop() {
    if (this.#child) {
      const ended = once(this.#child, 'exit');
      this.#child.kill('SIGTERM');
      const [code] = await ended;
      assert.equal(code, 0);
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #run(port) {
    const binary = process.env.GATEWAY_BIN;
    assert.ok(binary, 'GATEWAY_BIN must name the binary');
    const args = ['serve', '--dev', '--http_server.port', port];
    const env = { ...process.env, ...this.#settings };
    this.#child = spawn(binary, args, { cwd: this.#folder, env, stdio: ['ignore', 'pipe', 'ignore'] });
    const greeting = await greetingOf(this.#child);
    this.url = greeting.match(/Playground +(\S+?)\/\n/)[1];
    this.apiKey = greeting.match(/API key +(\S+)/)[1];
    this.token = greeting.match(/Token +(\S+)/)[1];
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
