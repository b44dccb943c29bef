// The built SDK in Deno and Bun, and in Node.js to compare, against the gateway. A runtime that its package
// does not bring is not run, which is said aloud and is no pass.
//
// GATEWAY_BIN  the gateway

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath, pathToFileURL } from 'node:url';

import { Gateway } from '../node/support/gateway.mjs';
import { Line } from '../node/support/proxy.mjs';
import { connectionToken } from '../node/support/tokens.mjs';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const SDK = path.join(HERE, '../../../sdk-js');
const BUILT = pathToFileURL(path.join(SDK, 'dist/esm')).href;
const RUNTIMES = [
  { name: 'Node.js', command: [process.execPath, '--no-warnings'] },
  { name: 'Deno', command: [path.join(HERE, 'node_modules/@deno/linux-x64-glibc/deno'), 'run', '--no-config', '--allow-net', '--allow-read', '--allow-env'] },
  { name: 'Bun', command: [path.join(HERE, 'node_modules/@oven/bun-linux-x64/bin/bun'), 'run'] },
];
const LAST = 20;
const PATIENCE_MS = 60_000;

let gateway;

before(async () => {
  gateway = await Gateway.start();
});
after(() => gateway?.stop());

for (const { name, command } of RUNTIMES) {
  describe(name, { skip: existsSync(command[0]) ? false : `NOT RUN: there is no ${command[0]}` }, () => {
    for (const codec of ['json', 'protobuf']) {
      test(`connects, publishes and recovers, ${codec}`, { timeout: PATIENCE_MS }, async (t) => {
        const line = await Line.to(gateway.port);
        t.after(() => line.close());
        const channel = `log:${randomUUID()}`;
        const [program, ...args] = [...command, path.join(HERE, 'smoke.mjs'), BUILT, line.endpoint, connectionToken('ada'), channel, codec];
        const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'inherit'] });
        t.after(() => child.kill());
        let last;
        let lost = false;
        for await (const said of createInterface({ input: child.stdout })) {
          last = said;
          if (said === 'ready') {
            line.cut();
          } else if (said === 'lost' && !lost) {
            lost = true;
            for (let n = 2; n <= LAST; n += 1) await gateway.publish(channel, { n });
            line.mend();
          }
        }
        const [code] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
        assert.equal(code, 0, 'it ends by itself once the client is closed');
        const all = Array.from({ length: LAST }, (_, index) => index + 1);
        assert.deepEqual(JSON.parse(last), { heard: all, recoveries: [true], kept: LAST });
      });
    }
  });
}

test('every runtime was run', (t) => {
  const missing = RUNTIMES.filter(({ command }) => !existsSync(command[0])).map(({ name }) => name);
  t.diagnostic(`run: ${RUNTIMES.map(({ name }) => name).filter((name) => !missing.includes(name)).join(', ')}`);
  assert.deepEqual(missing, [], `NOT RUN: ${missing.join(', ')}`);
});
