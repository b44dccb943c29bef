// Bundles and minifies each entry as an application would and holds its gzipped size against a limit.

import { gzipSync } from 'node:zlib';

import { build } from 'esbuild';

/** Bytes of an entry together with all it needs, and of all that browsers may load but React. */
const LIMITS = [
  { name: '.', entries: ['index'], limit: 9_000 },
  { name: './delta', entries: ['delta'], limit: 1_100 },
  { name: './protobuf', entries: ['protobuf'], limit: 2_500 },
  { name: './react without React', entries: ['react'], limit: 1_300 },
  { name: 'all but testing, React and Protobuf', entries: ['index', 'delta', 'outbox', 'tabs', 'history'], limit: 15_700 },
];

let failed = false;
for (const { name, entries, limit } of LIMITS) {
  const size = gzipSync(await bundle(entries), { level: 9 }).length;
  console.log(`${size > limit ? 'TOO BIG' : 'ok'}  ${name}: ${size} of ${limit} bytes`);
  failed ||= size > limit;
}
process.exitCode = failed ? 1 : 0;

async function bundle(entries) {
  const contents = entries.map((entry) => `export * from './dist/esm/${entry}.js';`).join('\n');
  const { outputFiles } = await build({
    stdin: { contents, resolveDir: '.' },
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    external: ['react'],
    write: false,
  });
  return outputFiles[0].contents;
}
