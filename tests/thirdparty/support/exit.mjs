// What is left to do when a test process is over, also if its runner ends it because it takes too long.

for (const signal of ['SIGINT', 'SIGTERM']) {
  // By itself a signal ends a process without a word to those that listen for its exit.
  process.once(signal, () => process.exit(1));
}

/** Has `run` called with the exit code when this process ends. */
export function atExit(run) {
  process.on('exit', run);
}
