/**
 * Hooks for React 18 and newer. Components that use the same channel share its subscription, and it
 * ends with the last of them. StrictMode's second run of effects does not make a second one.
 */

import {
  createContext,
  createElement,
  useCallback,
  useContext,
  useEffect,
  useRef,
  useState,
  useSyncExternalStore,
  type ReactNode,
} from 'react';

import type { Client } from './client.js';
import type { ClientState } from './machines/connection.js';
import type { SubscriptionState } from './machines/subscription.js';
import type { SubscriptionOptions } from './options.js';
import type { BobolinkError } from './errors.js';
import type { ClientInfo, Publication } from './publication.js';
import type { Subscription } from './subscription.js';

const ClientContext = createContext<Client | undefined>(undefined);

export interface ClientProviderProps {
  /** Connecting and closing it is up to who made it. */
  client: Pick<Client, 'endpoint' | 'state' | 'setToken' | 'close'>;
  children?: ReactNode;
}

export function ClientProvider({ client, children }: ClientProviderProps): ReactNode {
  return createElement(ClientContext.Provider, { value: client as Client }, children);
}

/** The client of the nearest `ClientProvider`; its `Channels` are taken on trust. */
export function useClient<Channels extends object = Record<string, unknown>>(): Client<Channels> {
  const client = useContext(ClientContext);
  if (!client) {
    throw new Error('useClient and the hooks for channels need a <ClientProvider client={…}> above them');
  }
  return client as unknown as Client<Channels>;
}

/** The state of the connection; renders again when it changes. */
export function useClientState(): ClientState {
  const client = useClient();
  const listen = useCallback((notify: () => void) => client.on('state', notify), [client]);
  const read = (): ClientState => client.state;
  return useSyncExternalStore(listen, read, read);
}

export interface UseSubscriptionOptions<T> extends SubscriptionOptions<T> {
  /** The newest one given is called; it need not stay the same. */
  onPublication?: (publication: Publication<T>) => void;
}

export interface UsedSubscription<T> {
  state: SubscriptionState;
  /** There once the component is mounted. */
  subscription: Subscription<T> | undefined;
}

/** What a subscription is in that no component has asked for yet. */
const NOT_YET: SubscriptionState = { name: 'unsubscribed', code: 0, reason: 'called' };

/**
 * Subscribes while the component is mounted. Options other than `onPublication` hold for the first
 * component that uses the channel.
 */
export function useSubscription<T = unknown>(
  channel: string,
  options: UseSubscriptionOptions<T> = {},
): UsedSubscription<T> {
  const client = useClient();
  const latest = useRef(options);
  useEffect(() => {
    latest.current = options;
  });
  const listen = useCallback(
    (notify: () => void) => {
      const { subscription, release } = hold(client, channel, latest.current);
      const undo = [
        subscription.on('state', notify),
        subscription.on('publication', (publication) => latest.current.onPublication?.(publication)),
        release,
      ];
      return () => undo.forEach((run) => run());
    },
    [client, channel],
  );
  const state = useSyncExternalStore(
    listen,
    () => client.find(channel)?.state ?? NOT_YET,
    () => NOT_YET,
  );
  return { state, subscription: client.find(channel) as Subscription<T> | undefined };
}

export interface UsePublicationsOptions<T> extends UseSubscriptionOptions<T> {
  /** How many are kept, the newest; 100 by default. */
  limit?: number;
}

/** Subscribes while the component is mounted, and gives what was published since, the oldest first. */
export function usePublications<T = unknown>(
  channel: string,
  { limit = 100, onPublication, ...options }: UsePublicationsOptions<T> = {},
): UsedSubscription<T> & { publications: readonly Publication<T>[] } {
  const [kept, keep] = useState<readonly Publication<T>[]>([]);
  const used = useSubscription<T>(channel, {
    ...options,
    onPublication(publication) {
      keep((before) => [...before.filter((old) => old.channel === channel), publication].slice(-limit));
      onPublication?.(publication);
    },
  });
  const publications = kept.length > 0 && kept[0]?.channel !== channel ? [] : kept;
  return { ...used, publications };
}

export interface UsedPresence<T> extends UsedSubscription<T> {
  /** Who is in the channel, by connection; empty until it is known. */
  present: Readonly<Record<string, ClientInfo>>;
  /** Why it is not known. */
  error: BobolinkError | undefined;
}

/**
 * Subscribes while the component is mounted, and tells who is in the channel: asked for once per
 * subscription, then kept by joins and leaves. Where another component has the channel already, that
 * one must have asked for `joinLeave` too.
 */
export function usePresence<T = unknown>(channel: string, options: UseSubscriptionOptions<T> = {}): UsedPresence<T> {
  const [watched, watch] = useState<Watched>(NOBODY);
  const used = useSubscription<T>(channel, { ...options, joinLeave: true });
  const { subscription } = used;
  useEffect(() => subscription && watchPresence(subscription, watch), [subscription]);
  const { present, error } = watched.channel === channel ? watched : NOBODY;
  return { ...used, present, error };
}

interface Watched extends Pick<UsedPresence<unknown>, 'present' | 'error'> {
  channel: string | undefined;
}

const NOBODY: Watched = { channel: undefined, present: {}, error: undefined };

type Move = (present: Record<string, ClientInfo>) => Record<string, ClientInfo>;

function watchPresence<T>(subscription: Subscription<T>, show: (watched: Watched) => void): () => void {
  const { channel } = subscription;
  let present: Record<string, ClientInfo> = {};
  /** What happened since presence was asked for: the answer may be older than that. */
  let moves: Move[] = [];
  let asked = 0;
  const move = (one: Move): void => {
    moves.push(one);
    show({ channel, present: (present = one(present)), error: undefined });
  };
  const ask = (): void => {
    const question = (asked += 1);
    moves = [];
    subscription.presence().then(
      (answer) => {
        if (question === asked) {
          show({ channel, present: (present = moves.reduce((all, one) => one(all), answer)), error: undefined });
        }
      },
      (error: unknown) => {
        if (question === asked) {
          show({ channel, present, error: error as BobolinkError });
        }
      },
    );
  };
  const undo = [
    subscription.on('subscribed', ask),
    subscription.on('join', (info) => move((all) => ({ ...all, [info.client]: info }))),
    subscription.on('leave', ({ client }) =>
      move((all) => Object.fromEntries(Object.entries(all).filter(([other]) => other !== client))),
    ),
  ];
  if (subscription.state.name === 'subscribed') {
    ask();
  }
  return () => {
    asked += 1;
    undo.forEach((run) => run());
  };
}

interface Hold {
  count: number;
  /** Whether the application had a subscription already, which is then not ours to end. */
  borrowed: boolean;
}

/** Per client, who holds which channel. */
const holds = new WeakMap<Client, Map<string, Hold>>();

function hold<T>(
  client: Client,
  channel: string,
  options: SubscriptionOptions<T>,
): { subscription: Subscription<T>; release: () => void } {
  const held = holds.get(client) ?? new Map<string, Hold>();
  holds.set(client, held);
  const known = client.find(channel) as Subscription<T> | undefined;
  const entry = held.get(channel) ?? { count: 0, borrowed: known !== undefined };
  held.set(channel, entry);
  entry.count += 1;
  const subscription = known ?? client.subscription<string, T>(channel, options);
  subscription.subscribe();
  const release = (): void => {
    entry.count -= 1;
    // Effects that end and begin again in one go, as in StrictMode, keep the subscription.
    queueMicrotask(() => {
      if (entry.count === 0 && held.get(channel) === entry) {
        held.delete(channel);
        if (!entry.borrowed) {
          subscription.close();
        }
      }
    });
  };
  return { subscription, release };
}
