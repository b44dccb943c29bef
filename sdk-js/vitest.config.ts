import { defineConfig } from 'vitest/config';

/** Milliseconds; only ever used up by a failing test. More than the tests themselves are patient for. */
const LIMIT = 60_000;

export default defineConfig({
  test: {
    include: ['test/**/*.test.{ts,tsx}'],
    // Two cores; the gateway needs one of them.
    maxWorkers: 2,
    testTimeout: LIMIT,
    hookTimeout: LIMIT,
    // An unhandled rejection fails the run, which is one of the things to be seen.
    dangerouslyIgnoreUnhandledErrors: false,
  },
});
