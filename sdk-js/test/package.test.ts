/** The package as `npm install` brings it: packed, and installed into an empty project. */

import { execFile } from 'node:child_process';
import { mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { build } from 'esbuild';
import { afterAll, beforeAll, expect, test } from 'vitest';

const PACKAGE = fileURLToPath(new URL('..', import.meta.url));
const MODULES = path.join(PACKAGE, 'node_modules');
const ENTRIES = ['', '/delta', '/outbox', '/tabs', '/history', '/protobuf', '/testing'];
/** Milliseconds for npm on a busy machine. */
const LONG = 120_000;
const run = promisify(execFile);
let project: string;

beforeAll(async () => {
  project = await mkdtemp(path.join(os.tmpdir(), 'bobolink-project-'));
  await run('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', project], { cwd: PACKAGE });
  await writeFile(path.join(project, 'package.json'), '{ "name": "empty", "private": true }');
  const [tarball] = (await readdir(project)).filter((name) => name.endsWith('.tgz'));
  await run('npm', ['install', '--offline', '--no-audit', '--no-fund', `./${tarball ?? ''}`], { cwd: project });
}, LONG);
afterAll(() => rm(project, { recursive: true }));

async function node(name: string, code: string): Promise<string> {
  await writeFile(path.join(project, name), code);
  return (await run(process.execPath, [name], { cwd: project, timeout: LONG })).stdout.trim();
}

test('brings nothing but itself', async () => {
  const installed = await readdir(path.join(project, 'node_modules'));
  expect(installed.filter((name) => !name.startsWith('.'))).toEqual(['@bobolink']);
});

test('every entry can be imported and required, and gives the same', async () => {
  const names = 'Object.keys(it).sort().join()';
  const imports = ENTRIES.map((entry) => `{ const it = await import('@bobolink/client${entry}'); console.log(${names}); }`);
  const requires = ENTRIES.map((entry) => `{ const it = require('@bobolink/client${entry}'); console.log(${names}); }`);
  const esm = await node('all.mjs', imports.join('\n'));
  expect(esm.split('\n')[0]).toBe('BobolinkError,Client,ErrorCode,EventLog,Subscription,UnauthorizedError,webSocketTransport');
  expect(await node('all.cjs', requires.join('\n'))).toBe(esm);
});

test('what is not used is not bundled', { timeout: LONG }, async () => {
  const size = async (code: string): Promise<number> => {
    const stdin = { contents: code, resolveDir: project };
    const { outputFiles } = await build({ stdin, bundle: true, minify: true, format: 'esm', write: false, logLevel: 'silent' });
    return outputFiles[0]?.contents.length ?? 0;
  };
  expect(await size(`import '@bobolink/client'; import '@bobolink/client/tabs'; import '@bobolink/client/outbox';`)).toBe(0);
  expect(await size(`export { EventLog } from '@bobolink/client';`)).toBeLessThan(400);
  expect(await size(`export { webSocketTransport } from '@bobolink/client';`)).toBeLessThan(2_500);
});

test.each(['nodenext', 'bundler'])('its types are there, with module resolution %s', { timeout: LONG }, async (resolution) => {
  for (const name of ['react', 'react-dom', '@types', 'csstype']) {
    await symlink(path.join(MODULES, name), path.join(project, 'node_modules', name)).catch(() => undefined);
  }
  const code = `
    import { Client, type Publication } from '@bobolink/client';
    import { fossil } from '@bobolink/client/delta';
    import { ChannelHistory } from '@bobolink/client/history';
    import { Outbox } from '@bobolink/client/outbox';
    import { protobuf } from '@bobolink/client/protobuf';
    import { usePublications } from '@bobolink/client/react';
    import { sharedClient } from '@bobolink/client/tabs';
    import { FakeServer } from '@bobolink/client/testing';

    interface Channels { news: { title: string }; [room: \`chat:\${string}\`]: { text: string } }
    const client = new Client<Channels>('ws://h', { codec: protobuf, transport: new FakeServer().transport });
    const room = client.subscription('chat:a', { delta: fossil });
    room.on('publication', ({ data }: Publication<{ text: string }>) => data.text);
    export const outbox = new Outbox(client);
    export const history = new ChannelHistory(room, { url: '', getToken: () => '' });
    export const shared = sharedClient<Channels>('ws://h');
    export const used = () => usePublications<{ text: string }>('chat:a').publications;
    // @ts-expect-error a room carries texts
    void room.publish({ title: '' });
    // @ts-expect-error no such channel
    client.subscription('nowhere');
  `;
  await writeFile(path.join(project, 'types.mts'), code);
  const module = resolution === 'bundler' ? 'esnext' : resolution;
  const compilerOptions = { noEmit: true, strict: true, target: 'es2022', types: [], module, moduleResolution: resolution };
  await writeFile(path.join(project, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['types.mts'] }));
  const compiled = run(process.execPath, [path.join(MODULES, 'typescript/bin/tsc'), '-p', '.'], { cwd: project });
  const { stdout } = await compiled.catch((error: unknown) => error as { stdout: string });
  expect(stdout).toBe('');
});

test('an application can be tested with it: FakeServer, a bounded loop, a log without secrets', async () => {
  const output = await node(
    'app.mjs',
    `
    import { BobolinkError, Client, ErrorCode, EventLog } from '@bobolink/client';
    import { FakeServer } from '@bobolink/client/testing';
    const [server, log] = [new FakeServer(), new EventLog()];
    const client = new Client('ws://fake', { transport: server.transport, token: 'a secret', log: log.add }).connect();
    const slow = client.subscription('news').publications({ buffer: 2 });
    await client.subscription('news').ready();
    [1, 2, 3].forEach((n) => server.publish('news', n));
    await new Promise((resolve) => setTimeout(resolve));
    const seen = [];
    try {
      for await (const { data } of slow) seen.push(data);
    } catch (error) {
      seen.push(error instanceof BobolinkError && error.code === ErrorCode.bufferFull);
    }
    client.close();
    console.log(JSON.stringify([seen, JSON.stringify(log.entries).includes('a secret')]));
    `,
  );
  expect(JSON.parse(output)).toEqual([[1, 2, true], false]);
});
