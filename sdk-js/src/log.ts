/** What happened, for debugging, without what must stay secret. */

export interface LogEntry {
  /** Milliseconds, as the clock gave them. */
  readonly at: number;
  readonly kind: 'state' | 'sent' | 'received' | 'error';
  /** JSON of what happened. Tokens, headers and the data of connecting and subscribing are `***`. */
  readonly text: string;
  readonly channel?: string;
}

export type Log = (entry: LogEntry) => void;

const SECRET = ['token', 'headers'];
/** Requests whose `data` is for the backend that decides, and may hold what convinces it. */
const CONFIDING = ['connect', 'subscribe'];
const HIDDEN = '***';

/** JSON of a value with its secrets replaced, however deep they are. */
export function redacted(value: unknown): string {
  return JSON.stringify(value, (key, inner: unknown) => {
    if (SECRET.includes(key) && inner) {
      return HIDDEN;
    }
    const confided = CONFIDING.includes(key) && (inner as { data?: unknown } | null);
    return confided && confided.data !== undefined ? { ...confided, data: HIDDEN } : inner;
  });
}

/** Keeps the newest entries. */
export class EventLog {
  readonly #entries: LogEntry[] = [];

  constructor(readonly limit = 500) {}

  /** To be given as the option `log` of a client. */
  readonly add: Log = (entry) => {
    if (this.#entries.push(entry) > this.limit) {
      this.#entries.shift();
    }
  };

  /** The oldest first. */
  get entries(): readonly LogEntry[] {
    return [...this.#entries];
  }
}
