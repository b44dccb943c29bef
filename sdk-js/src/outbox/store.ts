/** Where messages wait: in the browser's database, or in memory. */

/** A message as it is kept. */
export interface StoredMessage {
  /** Its place among all messages of the store. */
  readonly seq: number;
  /** The idempotency key. */
  readonly id: string;
  readonly channel: string;
  readonly data: unknown;
  /** Unix milliseconds at which the application sent it. */
  readonly at: number;
  /** Set before the first attempt. */
  readonly tried?: {
    /** Unix milliseconds. */
    readonly at: number;
    /** Whether the server promised to know the key again, in every attempt so far. */
    readonly known: boolean;
  };
  /** Why it was refused for good. */
  readonly error?: { readonly code: number; readonly message: string };
}

/** Keeps messages. What has resolved is kept; a store that fails makes `send` reject, with code 24 and its error as the cause. */
export interface OutboxStore {
  /** All messages, in the order of `seq`. */
  load(): Promise<StoredMessage[]>;
  /** Keeps a new message and gives it a `seq` above all before it. */
  add(message: Omit<StoredMessage, 'seq'>): Promise<number>;
  /** Replaces the message with this `seq`. */
  put(message: StoredMessage): Promise<void>;
  remove(seq: number): Promise<void>;
  close(): void;
}

/** For Node.js, React Native and tests: forgotten with the process. */
export function memoryStore(): OutboxStore {
  const kept = new Map<number, StoredMessage>();
  let last = 0;
  return {
    load: () => Promise.resolve([...kept.values()]),
    add(message) {
      kept.set(++last, { ...message, seq: last });
      return Promise.resolve(last);
    },
    put(message) {
      kept.set(message.seq, message);
      return Promise.resolve();
    },
    remove(seq) {
      kept.delete(seq);
      return Promise.resolve();
    },
    close: () => undefined,
  };
}

const MESSAGES = 'messages';

/** IndexedDB: survives reloads and restarts, and is shared by the tabs of an origin. */
export function indexedDBStore(name = 'bobolink-outbox'): OutboxStore {
  let opened: Promise<IDBDatabase> | undefined;
  const database = async (): Promise<IDBDatabase> => {
    opened ??= open(name);
    try {
      return await opened;
    } catch (error) {
      opened = undefined;
      throw error;
    }
  };
  const run = async <T>(mode: IDBTransactionMode, work: (store: IDBObjectStore) => IDBRequest<T>): Promise<T> => {
    const transaction = (await database()).transaction(MESSAGES, mode);
    return new Promise((resolve, reject) => {
      const request = work(transaction.objectStore(MESSAGES));
      transaction.oncomplete = () => resolve(request.result);
      transaction.onabort = () => reject(new Error('store failed', { cause: transaction.error }));
    });
  };
  return {
    load: () => run('readonly', (store) => store.getAll() as IDBRequest<StoredMessage[]>),
    add: async (message) => (await run('readwrite', (store) => store.add(message))) as number,
    async put(message) {
      await run('readwrite', (store) => store.put(message));
    },
    remove: (seq) => run('readwrite', (store) => store.delete(seq)),
    close() {
      opened?.then((database) => database.close()).catch(() => undefined);
    },
  };
}

function open(name: string): Promise<IDBDatabase> {
  return new Promise((resolve, reject) => {
    const request = indexedDB.open(name, 1);
    request.onupgradeneeded = () => void request.result.createObjectStore(MESSAGES, { keyPath: 'seq', autoIncrement: true });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(new Error('store failed', { cause: request.error }));
  });
}
