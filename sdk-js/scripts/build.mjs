// Builds dist/esm and dist/cjs: a module per source file, so that bundlers drop what is not used, with
// declarations next to each.

import { execFileSync } from 'node:child_process';
import { copyFile, readdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';

import { build } from 'esbuild';

const OUT = 'dist';

const sources = (await readdir('src', { recursive: true })).filter((name) => name.endsWith('.ts'));

await rm(OUT, { recursive: true, force: true });
execFileSync(process.execPath, ['node_modules/typescript/bin/tsc', '-p', 'tsconfig.build.json'], { stdio: 'inherit' });
for (const format of ['esm', 'cjs']) {
  await build({
    entryPoints: sources.map((name) => path.join('src', name)),
    outbase: 'src',
    outdir: path.join(OUT, format),
    format,
    target: 'es2022',
    sourcemap: true,
    logLevel: 'warning',
  });
}
for (const name of sources) {
  const declaration = name.replace(/ts$/, 'd.ts');
  await copyFile(path.join(OUT, 'esm', declaration), path.join(OUT, 'cjs', declaration));
}
// Below the package's "type": "module" this folder is the exception.
await writeFile(path.join(OUT, 'cjs/package.json'), '{ "type": "commonjs" }\n');
