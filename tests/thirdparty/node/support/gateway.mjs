// A gateway process of its own for a test file: config in a temporary folder, free port, stopped by
// its process id.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';

import { atExit } from '../../support/exit.mjs';
import { freePort } from '../../support/ports.mjs';
import { within } from './waiting.mjs';

export const TOKEN_SECRET = 'a secret that only these tests know';
const API_KEY = 'an api key that only these tests know';
const START_MS = 60_000;
const STOP_MS = 30_000;

/** Every namespace the suites use, named after what is special about it. */
const NAMESPACES = [
  { name: 'open', allow_publish_for_client: true },
  { name: 'closed', allow_subscribe_for_client: false },
  { name: 'users', allow_subscribe_for_client: false, allow_user_limited_channels: true },
  { name: 'binary', allow_publish_for_client: true, publication_data_format: 'binary' },
  { name: 'object', allow_publish_for_client: true, publication_data_format: 'json_object' },
  { name: 'present', presence: true, join_leave: true, force_push_join_leave: true, allow_presence_for_subscriber: true },
  { name: 'onrequest', presence: true, join_leave: true, allow_presence_for_subscriber: true, ...history(100), allow_positioning: true, allow_recovery: true },
  { name: 'log', ...history(1000), force_positioning: true, force_recovery: true, allow_history_for_subscriber: true, allow_publish_for_client: true },
  { name: 'short', ...history(3), force_recovery: true },
  { name: 'cache', ...history(10), force_recovery: true, force_recovery_mode: 'cache' },
  { name: 'autocache', ...history(10), force_recovery: true, force_recovery_mode: 'cache', auto_cache_recover: true },
  { name: 'delta', ...history(100), force_recovery: true, allowed_delta_types: ['fossil'], delta_publish: true },
  { name: 'tags', ...history(100), force_recovery: true, allow_tags_filter: true },
];

function history(size) {
  return { history_size: size, history_ttl: '60s' };
}

/** A failure the server API answered with. */
export class ApiError extends Error {
  constructor({ code, message }) {
    super(`error ${code}: ${message}`);
    this.code = code;
  }
}

export class Gateway {
  #child = null;
  #command;
  #folder = null;
  #log = [];

  /**
   * Starts a gateway; `client`, `websocket`, `engine` and `history` are settings of the configuration's
   * sections of these names, `namespaces` stand in the place of those that the suites share. With
   * `command` it is another one of the program's servers: `history`.
   */
  static async start({ command, client, websocket, engine, history, namespaces = NAMESPACES } = {}) {
    const gateway = new Gateway();
    gateway.#command = command ? [command] : [];
    gateway.#folder = await mkdtemp(path.join(os.tmpdir(), 'bobolink-'));
    gateway.port = await freePort();
    const file = path.join(gateway.#folder, 'history.db');
    const alone = { address: '127.0.0.1', port: gateway.port };
    const sections = { client, websocket, engine, history: { path: file, ...alone, ...history } };
    const settings = configuration(gateway.port, sections, namespaces);
    await writeFile(gateway.#configPath, JSON.stringify(settings));
    atExit((code) => gateway.#atExit(code));
    await gateway.#run();
    return gateway;
  }

  get endpoint() {
    return `ws://127.0.0.1:${this.port}/connection/websocket`;
  }

  /** Calls a method of the server API and returns its result. */
  async api(method, params = {}) {
    const response = await fetch(`http://127.0.0.1:${this.port}/api/${method}`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-API-Key': API_KEY },
      body: JSON.stringify(params),
    });
    if (response.status !== 200) {
      throw new Error(`api ${method}: HTTP ${response.status} ${await response.text()}`);
    }
    const { result, error } = await response.json();
    if (error) {
      throw new ApiError(error);
    }
    return result;
  }

  /** Runs commands of the server API in one request; all must succeed. */
  async batch(commands) {
    const response = await fetch(`http://127.0.0.1:${this.port}/api/batch`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json', 'X-API-Key': API_KEY },
      body: JSON.stringify({ commands }),
    });
    const { replies } = await response.json();
    const failed = replies.find(({ error }) => error);
    if (failed) {
      throw new ApiError(failed.error);
    }
    return replies;
  }

  /** Reads from the REST service of the archive, as a backend. */
  async history(path) {
    const url = `http://127.0.0.1:${this.port}/history/v1/${path}`;
    const response = await fetch(url, { headers: { 'X-API-Key': API_KEY } });
    if (response.status !== 200) {
      throw new Error(`history ${path}: HTTP ${response.status} ${await response.text()}`);
    }
    return response.json();
  }

  publish(channel, data, options = {}) {
    return this.api('publish', { channel, data, ...options });
  }

  /** Asks the process to end and waits until it has; it must not have ended before, and must end well. */
  async terminate() {
    const child = this.#child;
    const isAlone = child.exitCode !== null || child.signalCode !== null;
    if (!isAlone) {
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      await within(STOP_MS, 'the gateway to stop on SIGTERM', ended);
    }
    this.#child = null;
    if (isAlone || child.exitCode !== 0) {
      const how = `${isAlone ? 'by itself ' : ''}with code ${child.exitCode}, signal ${child.signalCode}`;
      throw new Error(`the gateway ended ${how}\n${this.log}`);
    }
  }

  /** Ends the process and starts another on the same port: what it held in memory is gone. */
  async restart() {
    await this.terminate();
    await this.#run();
  }

  async stop() {
    if (this.#child) {
      await this.terminate();
    }
    await rm(this.#folder, { recursive: true, force: true });
  }

  get log() {
    return this.#log.join('');
  }

  get #configPath() {
    return path.join(this.#folder, 'config.json');
  }

  async #run() {
    const binary = process.env.GATEWAY_BIN;
    if (!binary) {
      throw new Error('GATEWAY_BIN must name the gateway binary, `make test-node` sets it');
    }
    // Arguments, settings and probe that Centrifugo knows as well.
    this.#child = spawn(binary, [...this.#command, '-c', this.#configPath], { stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream.on('data', (text) => this.#remember(text.toString()));
    }
    const failed = new Promise((_, reject) => {
      this.#child.once('error', reject);
      this.#child.once('exit', (code) => reject(new Error(`the gateway ended with code ${code}\n${this.log}`)));
    });
    failed.catch(() => {});
    await within(START_MS, 'the gateway to be ready', Promise.race([failed, this.#ready()]));
  }

  async #ready() {
    const signal = AbortSignal.timeout(START_MS);
    while (!signal.aborted) {
      const response = await fetch(`http://127.0.0.1:${this.port}/health`, { signal }).catch(() => null);
      if (response?.status === 200) {
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  #remember(text) {
    this.#log.push(text);
    if (this.#log.length > 500) {
      this.#log.shift();
    }
  }

  #atExit(code) {
    this.#child?.kill('SIGKILL');
    if (code !== 0) {
      console.error(`log of the gateway on port ${this.port}:\n${this.log}`);
    }
  }
}

function configuration(port, { client, websocket, engine, history }, namespaces) {
  return {
    http_server: { address: '127.0.0.1', port },
    log: { level: 'info' },
    health: { enabled: true },
    http_api: { key: API_KEY },
    client: { token: { hmac_secret_key: TOKEN_SECRET }, ...client },
    websocket,
    engine,
    history,
    channel: {
      without_namespace: { allow_subscribe_for_client: true },
      namespaces: namespaces.map((options) => ({ allow_subscribe_for_client: true, ...options })),
    },
  };
}
