// The SDK's own behaviour suites, as they stand in sdk-js/test/behaviour, in a real browser against real
// gateways: the page runs the tests and their clients, this process starts the gateways and
// cuts the lines to them.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Gateway } from '../node/support/gateway.mjs';
import { Line } from '../node/support/proxy.mjs';
import { connectionToken, subscriptionToken } from '../node/support/tokens.mjs';
import { launch } from './support/pages.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const SDK = path.join(HERE, '../../../sdk-js');
/** Fewer tests than this mean that the suite was not found. */
const LEAST = 50;

/** What stands in the page for what there is in Node.js only. */
const STAND_INS = {
  vitest: path.join(HERE, 'sdk/vitest.mjs'),
  'node:crypto': path.join(HERE, 'sdk/node_crypto.mjs'),
  '../support/server.js': path.join(HERE, 'sdk/server.mjs'),
};

const { build } = createRequire(path.join(SDK, 'package.json'))('esbuild');
const things = new Map();
let browser;
let origin;
let pages;

before(async () => {
  pages = createServer(serve).listen(0, '127.0.0.1');
  await once(pages, 'listening');
  origin = `http://127.0.0.1:${pages.address().port}`;
  browser = await launch();
});

after(async () => {
  await browser?.close();
  pages?.close();
  await Promise.all([...things.values()].map((thing) => thing.stop?.() ?? thing.close?.()));
});

test('in a browser', async (t) => {
  const script = await bundle();
  const page = await browser.newPage();
  page.setDefaultTimeout(20_000);
  await page.goto(origin);
  await page.exposeFunction('askTestProcess', (what, args) => ANSWERS[what](...args));
  const results = [];
  await page.exposeFunction('told', (name, error) => { results.push({ name, error }); });
  const uncaught = [];
  page.on('pageerror', (error) => uncaught.push(error.message));
  await page.addScriptTag({ type: 'module', content: script });
  await page.waitForFunction(() => globalThis.runSuite);
  await page.evaluate(() => globalThis.runSuite(globalThis.told));
  for (const { name, error } of results) {
    await t.test(name, () => assert.equal(error, ''));
  }
  assert.ok(results.length >= LEAST, `${results.length} tests`);
  assert.deepEqual(uncaught, []);
});

/** An empty page, and answers to what it wants at once. */
async function serve(request, response) {
  const [, what] = request.url.match(/^\/ask\/(\w+)$/) ?? [];
  if (!what) {
    response.setHeader('Content-Type', 'text/html').end('<!doctype html><title>SDK</title><link rel="icon" href="data:,">');
    return;
  }
  let body = '';
  for await (const chunk of request) body += chunk;
  try {
    response.end(String(ANSWERS[what](...JSON.parse(body))));
  } catch (error) {
    response.writeHead(500).end(error.message);
  }
}

let made = 0;

function keep(thing) {
  made += 1;
  things.set(made, thing);
  return made;
}

async function end(id, how) {
  const thing = things.get(id);
  things.delete(id);
  await thing[how]();
}

const ANSWERS = {
  connectionToken,
  subscriptionToken,
  async start(client, namespaces) {
    const gateway = await Gateway.start({ client: { allowed_origins: [origin], ...client }, namespaces });
    return { id: keep(gateway), port: gateway.port };
  },
  api: (id, method, params) => things.get(id).api(method, params),
  restart: (id) => things.get(id).restart(),
  stop: (id) => end(id, 'stop'),
  async line(port) {
    const line = await Line.to(port);
    return { id: keep(line), endpoint: line.endpoint };
  },
  cut: (id) => things.get(id).cut(),
  mend: (id) => things.get(id).mend(),
  closeLine: (id) => end(id, 'close'),
};

async function bundle() {
  const contents = `
    import './test/behaviour/gateway.test.ts';
    import './test/behaviour/history.test.ts';
    import './test/behaviour/lifetimes.test.ts';
    import { run } from 'vitest';
    globalThis.runSuite = run;`;
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: SDK, loader: 'ts' },
    bundle: true,
    format: 'esm',
    target: 'es2022',
    // The tests are nothing but side effects, whatever the package says of its files.
    ignoreAnnotations: true,
    nodePaths: [path.join(SDK, 'node_modules')],
    plugins: [{
      name: 'stand-ins',
      setup: (bundler) => bundler.onResolve({ filter: /^(vitest|node:crypto|\.\.\/support\/server\.js)$/ }, (wanted) => ({ path: STAND_INS[wanted.path] })),
    }],
    write: false,
  });
  return outputFiles[0].text;
}
