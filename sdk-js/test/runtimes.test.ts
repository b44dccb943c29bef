/** The package where there is no page: worker threads, and runtimes that lack most of what browsers have. */

import { fileURLToPath } from 'node:url';
import vm from 'node:vm';
import { Worker } from 'node:worker_threads';

import { build } from 'esbuild';
import { describe, expect, test } from 'vitest';

const PACKAGE = fileURLToPath(new URL('..', import.meta.url));
const ENTRIES = ['index', 'delta', 'outbox', 'tabs', 'history', 'protobuf', 'testing'];

/** Talks to a `FakeServer` with everything that needs no network, and says what it saw. */
const SCENE = `
  const server = new FakeServer();
  const client = new Client('ws://fake', { transport: server.transport, token: 'ada' }).connect();
  const shared = sharedClient('ws://fake', { transport: server.transport, token: 'bert' }).connect();
  const subscription = shared.subscription('a').subscribe();
  const outbox = new Outbox(client, { store: memoryStore() });
  const history = new ChannelHistory(subscription, { url: 'http://nowhere', getToken: () => '', fetch: () => undefined });
  const heard = new Promise((resolve) => subscription.on('publication', resolve));
  const scene = (async () => {
    await subscription.ready(5000);
    await outbox.send('a', { text: 'hello' });
    const { data } = await heard;
    history.close();
    client.close();
    shared.close();
    return data.text;
  })();
`;

/** All entries in one script of a kind. */
async function bundled(format: 'esm' | 'iife', after = ''): Promise<string> {
  const imports = ENTRIES.map((entry) => `export * from './src/${entry}.ts';`).join('\n');
  const names = 'FakeServer, Client, sharedClient, Outbox, memoryStore, ChannelHistory';
  const from = `import { ${names} } from './all.js';`;
  const { outputFiles } = await build({
    stdin: { contents: `${from}\n${SCENE}\n${after}`, resolveDir: PACKAGE },
    plugins: [
      {
        name: 'all',
        setup(plugin) {
          plugin.onResolve({ filter: /^\.\/all\.js$/ }, () => ({ path: 'all', namespace: 'all' }));
          plugin.onLoad({ filter: /.*/, namespace: 'all' }, () => ({ contents: imports, resolveDir: PACKAGE }));
        },
      },
    ],
    bundle: true,
    format,
    target: 'es2022',
    write: false,
  });
  return outputFiles[0]?.text ?? '';
}

describe('the package', () => {
  test('works in a worker thread, which ends by itself', async () => {
    const report = `
      const { parentPort } = process.getBuiltinModule('node:worker_threads');
      parentPort.postMessage([typeof document, await scene]);
    `;
    const code = await bundled('esm', report);
    const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(code)));
    const messages: unknown[] = [];
    worker.on('message', (message) => messages.push(message));
    const ended = await new Promise((resolve, reject) => worker.on('exit', resolve).on('error', reject));
    expect([ended, messages]).toEqual([0, [['undefined', 'hello']]]);
  });

  test('works where there is little more than the language, as in React Native', async () => {
    // Neither WebSocket nor document, navigator, crypto, indexedDB, BroadcastChannel or fetch.
    const given = { setTimeout, clearTimeout, queueMicrotask, console, TextEncoder, TextDecoder, AbortController, URLSearchParams };
    const context = vm.createContext({ ...given });
    vm.runInContext(await bundled('iife', 'globalThis.scene = scene;'), context);
    expect(await (context.scene as Promise<unknown>)).toBe('hello');
  });

  test.each(ENTRIES)('importing %s touches nothing of a page', async (entry) => {
    const { outputFiles } = await build({
      stdin: { contents: `import * as all from './src/${entry}.ts'; globalThis.all = all;`, resolveDir: PACKAGE },
      bundle: true,
      format: 'iife',
      target: 'es2022',
      write: false,
    });
    const context = vm.createContext({});
    vm.runInContext(outputFiles[0]?.text ?? '', context);
    expect(Object.keys(context.all as object)).not.toEqual([]);
  });
});
