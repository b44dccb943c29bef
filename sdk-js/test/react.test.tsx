// @vitest-environment happy-dom
/** The hooks, in StrictMode, against the server that applications test with. */

import { act, StrictMode, type ReactNode } from 'react';
import { createRoot, type Root } from 'react-dom/client';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { BobolinkError, Client, type ClientInfo } from '../src/index.js';
import { ClientProvider, useClient, useClientState, usePresence, usePublications, useSubscription } from '../src/react.js';
import { FakeServer } from '../src/testing.js';

let server: FakeServer;
let client: Client;
let root: Root;
let page: HTMLElement;

beforeEach(() => {
  vi.stubGlobal('IS_REACT_ACT_ENVIRONMENT', true);
  server = new FakeServer();
  client = new Client('ws://fake', { transport: server.transport, token: 'anna', minReconnectDelay: 0, maxReconnectDelay: 0 });
  page = document.createElement('div');
  root = createRoot(page);
});

afterEach(() => {
  act(() => root.unmount());
  client.close();
});

/** Renders in StrictMode and lets everything that follows from it happen. */
async function show(children: ReactNode): Promise<void> {
  await doing(() =>
    root.render(
      <StrictMode>
        <ClientProvider client={client}>{children}</ClientProvider>
      </StrictMode>,
    ),
  );
}

async function doing(work: () => void): Promise<void> {
  await act(async () => {
    work();
    // One turn for each timer that sets the next: so many, and not so long, as the machine may stand still meanwhile.
    for (let turn = 0; turn < 10; turn += 1) await new Promise((resolve) => setTimeout(resolve));
  });
}

function commands(name: 'subscribe' | 'unsubscribe' | 'presence'): number {
  return server.commands.filter((command) => command[name]).length;
}

function Connection(): ReactNode {
  return useClientState().name;
}

function Room({ channel, limit }: { channel: string; limit?: number }): ReactNode {
  const { state, publications } = usePublications<string>(channel, { limit });
  return `${state.name}: ${publications.map(({ data }) => data).join(' ')};`;
}

describe('the connection', () => {
  test('its state is rendered as it changes', async () => {
    await show(<Connection />);
    expect(page.textContent).toBe('disconnected');
    await doing(() => client.connect());
    expect(page.textContent).toBe('connected');
    await doing(() => client.disconnect());
    expect(page.textContent).toBe('disconnected');
  });

  test('hooks say that they need a provider', () => {
    const silent = vi.spyOn(console, 'error').mockImplementation(() => undefined);
    function Orphan(): ReactNode {
      return useClient().state.name;
    }
    expect(() => act(() => root.render(<Orphan />))).toThrow('ClientProvider');
    silent.mockRestore();
  });
});

describe('subscriptions', () => {
  beforeEach(() => client.connect().ready());

  test('StrictMode subscribes once, and unmounting ends it', async () => {
    await show(<Room channel="a" />);
    expect(page.textContent).toBe('subscribed: ;');
    expect([commands('subscribe'), commands('unsubscribe')]).toEqual([1, 0]);
    await show(null);
    expect(commands('unsubscribe')).toBe(1);
    expect(client.find('a')).toBeUndefined();
  });

  test('publications are rendered, the newest of them', async () => {
    await show(<Room channel="a" limit={2} />);
    await doing(() => ['one', 'two', 'three'].forEach((word) => server.publish('a', word)));
    expect(page.textContent).toBe('subscribed: two three;');
  });

  test('what was missed while away is rendered once', async () => {
    await show(<Room channel="a" />);
    await doing(() => server.publish('a', 'one'));
    await doing(() => server.cut());
    await doing(() => server.publish('a', 'two'));
    expect(page.textContent).toBe('subscribing: one;');
    await doing(() => server.mend());
    expect(page.textContent).toBe('subscribed: one two;');
  });

  test('components of one channel share its subscription, which ends with the last', async () => {
    await show([<Room channel="a" key="1" />, <Room channel="a" key="2" />]);
    await doing(() => server.publish('a', 'one'));
    expect(page.textContent).toBe('subscribed: one;subscribed: one;');
    await show([<Room channel="a" key="1" />]);
    expect([commands('subscribe'), commands('unsubscribe')]).toEqual([1, 0]);
    await show(null);
    expect(commands('unsubscribe')).toBe(1);
  });

  test('another channel begins with nothing', async () => {
    await show(<Room channel="a" />);
    await doing(() => server.publish('a', 'one'));
    await show(<Room channel="b" />);
    expect(page.textContent).toBe('subscribed: ;');
    await doing(() => server.publish('b', 'two'));
    expect(page.textContent).toBe('subscribed: two;');
    expect(client.find('a')).toBeUndefined();
  });

  test('a subscription that the application made itself is left to it', async () => {
    const sub = client.subscription('a').subscribe();
    await show(<Room channel="a" />);
    await show(null);
    expect(sub.state.name).toBe('subscribed');
  });

  test('clients of typed channels fit the provider', () => {
    const typed = new Client<{ news: { title: string } }>('ws://fake', { transport: server.transport });
    expect(<ClientProvider client={typed} />).toBeDefined();
    typed.close();
  });

  test('the newest listener is called', async () => {
    const [first, second] = [vi.fn(), vi.fn()];
    function Listener({ heard }: { heard: () => void }): ReactNode {
      useSubscription('a', { onPublication: heard });
      return null;
    }
    await show(<Listener heard={first} />);
    await show(<Listener heard={second} />);
    await doing(() => server.publish('a', 1));
    expect([first.mock.calls.length, second.mock.calls.length]).toEqual([0, 1]);
  });
});

describe('presence', () => {
  let other: Client;
  beforeEach(async () => {
    await client.connect().ready();
    other = new Client('ws://fake', { transport: server.transport, token: 'bert', minReconnectDelay: 0, maxReconnectDelay: 0 }).connect();
  });
  afterEach(() => doing(() => other.close()));

  function Who({ channel }: { channel: string }): ReactNode {
    const { present, error } = usePresence(channel);
    return `${Object.values(present).map(({ user }) => user).sort().join(' ')}${error ? ` ${error.code}` : ''};`;
  }

  test('tells who is there, who comes and who leaves', async () => {
    const sub = other.subscription('a').subscribe();
    await sub.ready();
    await show(<Who channel="a" />);
    expect(page.textContent).toBe('anna bert;');
    await doing(() => sub.unsubscribe());
    expect(page.textContent).toBe('anna;');
    await doing(() => sub.subscribe());
    expect(page.textContent).toBe('anna bert;');
    expect(commands('presence')).toBe(1);
  });

  test('is asked for again after a lost connection', async () => {
    await show(<Who channel="a" />);
    await doing(() => server.cut());
    server.mend();
    await doing(() => other.subscription('a').subscribe());
    await doing(() => undefined);
    expect(page.textContent).toBe('anna bert;');
  });

  test('a move that overtakes the answer counts', async () => {
    const sub = client.subscription('a', { joinLeave: true }).subscribe();
    await sub.ready();
    let answer: (present: Record<string, ClientInfo>) => void = () => undefined;
    sub.presence = () => new Promise((resolve) => (answer = resolve));
    await show(<Who channel="a" />);
    await doing(() => other.subscription('a').subscribe());
    const gone = { user: 'cleo', client: 'gone' };
    await doing(() => answer({ [gone.client]: gone }));
    expect(page.textContent).toBe('bert cleo;');
  });

  test('why it is not known is told, and another channel begins with nobody', async () => {
    const sub = client.subscription('b', { joinLeave: true }).subscribe();
    await sub.ready();
    sub.presence = () => Promise.reject(new BobolinkError(108, 'not available'));
    await show(<Who channel="a" />);
    expect(page.textContent).toBe('anna;');
    await show(<Who channel="b" />);
    expect(page.textContent).toBe(' 108;');
  });
});
