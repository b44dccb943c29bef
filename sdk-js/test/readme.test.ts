/** The README: what runs there is run, what is TypeScript there is compiled. */

import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

interface DevGateway {
  url: string;
  stop(): Promise<void>;
}

const PACKAGE = fileURLToPath(new URL('..', import.meta.url));
const PRINTED = '127.0.0.1:8000';
const run = promisify(execFile);

const readme = await readFile(path.join(PACKAGE, 'README.md'), 'utf8');
let gateway: DevGateway;
let folder: string;

beforeAll(async () => {
  const support = new URL('../../tests/thirdparty/support/dev_gateway.mjs', import.meta.url);
  const module = (await import(support.href)) as { DevGateway: { start(): Promise<DevGateway> } };
  gateway = await module.DevGateway.start();
  // Inside the package, so that it can be imported by its own name.
  folder = await mkdtemp(path.join(PACKAGE, 'test/readme-'));
});

afterAll(async () => {
  await rm(folder, { recursive: true });
  await gateway.stop();
});

function blocks(language: string): string[] {
  const found = readme.matchAll(new RegExp(`<!-- tour: \\w+ -->\n\`\`\`${language}\n([\\s\\S]*?)\n\`\`\``, 'g'));
  return [...found].map(([, code]) => code ?? '');
}

async function runBlock(code: string): Promise<string> {
  const file = path.join(folder, 'tour.mjs');
  const socket = "import WebSocket from 'ws'; globalThis.WebSocket ??= WebSocket;\n";
  await writeFile(file, socket + code.replaceAll(PRINTED, new URL(gateway.url).host));
  // It must end by itself: nothing may keep the process alive after close().
  return (await run(process.execPath, [file], { timeout: 60_000 })).stdout;
}

describe('what runs', () => {
  test('there is all of it', () => {
    expect(blocks('js')).toHaveLength(3);
    expect(blocks('tsx?')).toHaveLength(9);
  });

  test('five minutes', async () => {
    const output = await runBlock(blocks('js')[0]!);
    expect(output).toMatch(/^connecting\nconnected\n/);
    expect(output).toMatch(/\d+ \{ text: 'hello from a client' \}/);
    expect(output).toMatch(/\d+ messages, \[ 'ada' \]/);
  });

  test('your own tests', async () => {
    expect(await runBlock(blocks('js')[1]!)).toBe('');
  });

  test('the event log', async () => {
    const output = await runBlock(blocks('js')[2]!);
    expect(output).toMatch(/^invalid token\n/);
    expect(output).toContain('sent {"id":1,"connect":{"token":"***"}}');
    expect(output).not.toContain('nobody knows');
  });
});

test('what is TypeScript compiles', async () => {
  const names = await Promise.all(
    blocks('tsx?').map(async (code, index) => {
      const file = path.join(folder, `block${index}.tsx`);
      await writeFile(file, code);
      return file;
    }),
  );
  const options = ['--noEmit', '--strict', '--skipLibCheck', '--target', 'es2022', '--module', 'nodenext', '--jsx', 'react-jsx'];
  const compiler = path.join(PACKAGE, 'node_modules/typescript/bin/tsc');
  const compiled = run(process.execPath, [compiler, '--ignoreConfig', ...options, ...names], { cwd: PACKAGE });
  const output = await compiled.catch((error: unknown) => error as { stdout: string });
  expect(output.stdout).toBe('');
});

test.each(['.', '/delta', '/outbox', '/tabs', '/history', '/protobuf', '/testing', '/react'])('the built entry %s can be required', async (entry) => {
  const name = `@bobolink/client${entry.replace('.', '')}`;
  const code = `console.log(Object.keys(require(${JSON.stringify(name)})).join())`;
  const { stdout } = await run(process.execPath, ['-e', code], { cwd: PACKAGE });
  expect(stdout.trim()).not.toBe('');
});
