// Bundles what the pages of `serve --dev` load from TypeScript sources: the SDK for the playground, and
// the chat of examples/chat. The results are committed, so that the gateway is built without Node.js.
//
//   node scripts/pages.mjs           writes them
//   node scripts/pages.mjs --check   says which of them are not what the sources make

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

import { bundle } from '../examples/chat/build.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CHAT = 'examples/chat';
const PLAYGROUND_SDK = 'src/transport/playground/bobolink.js';

const { build } = createRequire(path.join(ROOT, CHAT, 'build.mjs'))('esbuild');

async function sdk() {
  const { outputFiles } = await build({
    absWorkingDir: ROOT,
    entryPoints: ['sdk-js/src/index.ts'],
    bundle: true,
    minify: true,
    charset: 'utf8',
    format: 'esm',
    target: 'es2022',
    banner: { js: '// @bobolink/client, bundled from sdk-js by `make pages`.' },
    write: false,
  });
  return outputFiles[0].text;
}

const files = new Map([[PLAYGROUND_SDK, await sdk()]]);
for (const [name, text] of await bundle()) {
  files.set(path.join(CHAT, name), text);
}

if (process.argv.includes('--check')) {
  for (const [file, text] of files) {
    const there = await readFile(path.join(ROOT, file), 'utf8').catch(() => '');
    if (there !== text) {
      console.error(`${file} is not what its sources make: run "make pages" and commit it`);
      process.exitCode = 1;
    }
  }
} else {
  for (const [file, text] of files) {
    await mkdir(path.dirname(path.join(ROOT, file)), { recursive: true });
    await writeFile(path.join(ROOT, file), text);
  }
}
