// The part of vitest that the SDK's behaviour suite uses, in a page: vitest's own `expect`, and a runner
// that takes one test of a suite after the other, unless the suite is `concurrent`.

import { chai, JestAsymmetricMatchers, JestChaiExpect, JestExtend } from '@vitest/expect';

[JestExtend, JestChaiExpect, JestAsymmetricMatchers].forEach((plugin) => chai.use(plugin));

export const expect = Object.assign((value, message) => chai.expect(value, message), chai.expect);

/** As in the suite's own vitest.config.ts. */
const PATIENCE_MS = 60_000;

const suites = [];
let open;

export function describe(name, options, define = options) {
  const outer = open;
  open = { name: outer ? `${outer.name}, ${name}` : name, concurrent: options.concurrent, tests: [], beforeAll: [], afterEach: [], afterAll: [] };
  suites.push(open);
  define();
  open = outer;
}

export function test(name, options, run = options) {
  open.tests.push({ name, run, patience: options.timeout ?? PATIENCE_MS });
}

for (const declare of [describe, test]) {
  declare.each = (rows) => (name, options, run = options) => rows.forEach((row) => {
    const args = Array.isArray(row) ? row : [row];
    declare(filled(name, args), options, () => run(...args));
  });
}

export const beforeAll = (run) => open.beforeAll.push(run);
export const afterEach = (run) => open.afterEach.push(run);
export const afterAll = (run) => open.afterAll.push(run);

/** Runs all suites beside each other, and tells of each test: its name, and the error's text if it failed. */
export async function run(told) {
  await Promise.all(suites.map((suite) => runSuite(suite, told)));
}

async function runSuite({ name: suiteName, concurrent, tests, ...hooks }, told) {
  const runTest = async ({ name, run, patience }) => {
    const error = await failureOf(async () => {
      try {
        await Promise.race([run(), late(patience)]);
      } finally {
        await inOrder(hooks.afterEach);
      }
    });
    await told(`${suiteName}: ${name}`, error);
  };
  await inOrder(hooks.beforeAll);
  if (concurrent) {
    await Promise.all(tests.map(runTest));
  } else {
    for (const one of tests) await runTest(one);
  }
  await inOrder(hooks.afterAll);
}

function late(ms) {
  return new Promise((_, reject) => setTimeout(() => reject(new Error(`took longer than ${ms} ms`)), ms));
}

/** In a name, `$name` is a row's property of this name, `%i` and `%s` are its parts in turn. */
function filled(name, args) {
  const left = [...args];
  return name.replace(/\$(\w+)/g, (_, key) => String(args[0][key])).replace(/%[is]/g, () => String(left.shift()));
}

async function inOrder(hooks) {
  for (const hook of hooks) await hook();
}

async function failureOf(run) {
  try {
    await run();
    return '';
  } catch (error) {
    return String(error?.stack ?? error);
  }
}
