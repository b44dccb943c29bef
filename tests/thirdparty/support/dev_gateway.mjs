// A gateway as `make start` runs it, in a folder and on a port of its own.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

import { within } from '../node/support/waiting.mjs';
import { atExit } from './exit.mjs';
import { freePort } from './ports.mjs';

const START_MS = 60_000;
const STOP_MS = 30_000;
/** How much of what a gateway says is kept, in characters. */
const LOG = 20_000;

export class DevGateway {
  #child;
  #folder;
  #settings;
  #log = '';

  /** Starts it with these environment variables, and waits for its greeting. */
  static async start(settings = {}) {
    const gateway = new DevGateway();
    gateway.#settings = settings;
    gateway.#folder = await mkdtemp(path.join(os.tmpdir(), 'bobolink-dev-'));
    atExit((code) => gateway.#atExit(code));
    await gateway.#run(String(await freePort()));
    return gateway;
  }

  /** Ends the process at once, as a power cut would: nobody is told, and what was in memory is gone. */
  async kill() {
    await this.#end('SIGKILL');
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

  /** Asks the process to end; one that has ended by itself, or does not end well, is a failure. */
  async stop() {
    if (this.#child) {
      const isAlone = hasEnded(this.#child);
      const [code, signal] = await this.#end('SIGTERM');
      assert.ok(!isAlone && code === 0, `the gateway ended ${isAlone ? 'by itself ' : ''}with code ${code}, signal ${signal}\n${this.#log}`);
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  async #run(port) {
    const binary = process.env.GATEWAY_BIN;
    assert.ok(binary, 'GATEWAY_BIN must name the binary');
    const args = ['serve', '--dev', '--http_server.port', port];
    const env = { ...process.env, ...this.#settings };
    const child = spawn(binary, args, { cwd: this.#folder, env, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    child.stderr.on('data', (text) => (this.#log = (this.#log + text).slice(-LOG)));
    const greeting = await this.#greeting(child);
    this.url = greeting.match(/Playground +(\S+?)\/\n/)[1];
    this.apiKey = greeting.match(/API key +(\S+)/)[1];
    this.token = greeting.match(/Token +(\S+)/)[1];
  }

  /** What it prints before it is ready to be used. */
  #greeting(child) {
    let text = '';
    const greeted = new Promise((resolve) => {
      child.stdout.setEncoding('utf8');
      child.stdout.on('data', (chunk) => {
        text += chunk;
        if (/Secrets are kept/.test(text)) resolve(text);
      });
    });
    const failed = new Promise((_, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => reject(new Error(`the gateway ended with code ${code}, signal ${signal}\n${this.#log}`)));
    });
    failed.catch(() => {});
    return within(START_MS, 'the gateway to greet', Promise.race([greeted, failed]));
  }

  /** Resolves with code and signal when it has ended, as it may have before. */
  async #end(signal) {
    const child = this.#child;
    if (!hasEnded(child)) {
      const ended = once(child, 'exit');
      child.kill(signal);
      await within(STOP_MS, `the gateway to end after ${signal}`, ended);
    }
    this.#child = undefined;
    return [child.exitCode, child.signalCode];
  }

  #atExit(code) {
    this.#child?.kill('SIGKILL');
    if (code !== 0 && this.#log) {
      console.error(`log of the gateway at ${this.url}:\n${this.#log}`);
    }
  }
}

function hasEnded(child) {
  return child.exitCode !== null || child.signalCode !== null;
}
