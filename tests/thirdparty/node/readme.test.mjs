// The five-minute tour of the README, run as it stands there.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { DevGateway } from '../support/dev_gateway.mjs';

const FOLDER = path.dirname(fileURLToPath(import.meta.url));
const ROOT = path.join(FOLDER, '../../..');
const PRINTED_URL = 'http://127.0.0.1:8000';
const run = promisify(execFile);

let gateway;
let readme;

before(async () => {
  readme = await readFile(path.join(ROOT, 'README.md'), 'utf8');
  gateway = await DevGateway.start();
});

after(() => gateway?.stop());

test('the curl commands publish and read back', async () => {
  const commands = block('curl');
  const promised = [...commands.matchAll(/^# (\{.*\})$/gm)].map(([, line]) => JSON.parse(line));
  const { stdout } = await run('bash', ['-euc', commands], {
    env: { ...process.env, API_KEY: gateway.apiKey },
  });
  const answers = stdout.replaceAll('}{', '}\n{').trim().split('\n').map((line) => JSON.parse(line));
  assert.deepEqual(answers.map(withoutEpoch), promised.map(withoutEpoch));
});

test('the JavaScript listens and publishes', async (t) => {
  const snippet = path.join(FOLDER, 'readme-snippet.tmp.mjs');
  const sockets = "import WebSocket from 'ws'; globalThis.WebSocket ??= WebSocket;\n";
  const goodbye = '\nclient.disconnect();\n';
  await writeFile(snippet, sockets + block('javascript') + goodbye);
  t.after(() => rm(snippet));
  const { stdout } = await run(process.execPath, [snippet], { timeout: 60_000 });
  assert.match(stdout, /\d+ \{ text: 'hello from a client' \}/);
});

/** A marked block of the README, for the port at hand. */
function block(name) {
  const found = readme.match(new RegExp(`<!-- tour: ${name} -->\n\`\`\`\\w+\n([\\s\\S]*?)\n\`\`\``));
  assert.ok(found, `the README has a block marked "tour: ${name}"`);
  const { host } = new URL(gateway.url);
  return found[1].replaceAll(PRINTED_URL, gateway.url).replaceAll('ws://127.0.0.1:8000', `ws://${host}`);
}

function withoutEpoch(answer) {
  return JSON.parse(JSON.stringify(answer, (key, value) => (key === 'epoch' ? undefined : value)));
}
