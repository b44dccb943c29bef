// Bundles the page's script and style into dist/, which is committed, so that the gateway can be built
// without Node.js. With --tests it bundles the unit tests into .tests/ instead.

import { mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { build } from 'esbuild';

const HERE = path.dirname(fileURLToPath(import.meta.url));
/** What browsers of the last two years understand. */
const TARGET = 'es2022';

/** The page's files by their path in this folder, and what they hold. */
export async function bundle() {
  const { outputFiles } = await build({
    absWorkingDir: HERE,
    entryPoints: [
      { in: 'src/main.ts', out: 'chat' },
      { in: 'styles/chat.css', out: 'chat' },
    ],
    bundle: true,
    minify: true,
    charset: 'utf8',
    format: 'esm',
    target: TARGET,
    outdir: 'dist',
    write: false,
  });
  return new Map(outputFiles.map(({ path: file, text }) => [path.relative(HERE, file), text]));
}

async function bundleTests() {
  const tests = (await readdir(path.join(HERE, 'test'))).filter((name) => name.endsWith('.test.ts'));
  await rm(path.join(HERE, '.tests'), { recursive: true, force: true });
  await build({
    absWorkingDir: HERE,
    entryPoints: tests.map((name) => path.join('test', name)),
    bundle: true,
    platform: 'node',
    format: 'esm',
    target: TARGET,
    outdir: '.tests',
    outExtension: { '.js': '.mjs' },
  });
}

async function main() {
  if (process.argv.includes('--tests')) {
    await bundleTests();
    return;
  }
  for (const [file, text] of await bundle()) {
    await mkdir(path.dirname(path.join(HERE, file)), { recursive: true });
    await writeFile(path.join(HERE, file), text);
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  await main();
}
