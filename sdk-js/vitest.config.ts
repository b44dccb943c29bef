import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.{ts,tsx}'],
    // Two cores; the gateway needs one of them.
    maxWorkers: 2,
    testTimeout: 20_000,
    // An unhandled rejection fails the run, which is one of the things to be seen.
    dangerouslyIgnoreUnhandledErrors: false,
  },
});
