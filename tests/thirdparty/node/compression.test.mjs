// permessage-deflate with a WebSocket library that offers it by itself, and one window after another.

import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import WebSocket from 'ws';

import { Clients, everyCodec, subscribe, uniqueChannel } from './support/clients.mjs';
import { Gateway } from './support/gateway.mjs';
import { Line } from './support/proxy.mjs';
import { PATIENCE_MS, record, within } from './support/waiting.mjs';

const AGREED = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
const MIN_SIZE = 300;

let gateway;
let clients;
before(async () => {
  gateway = await Gateway.start({
    websocket: { compression: true, compression_min_size: MIN_SIZE, message_size_limit: 10_000 },
    client: { write_delay: '20ms' },
  });
  clients = new Clients(gateway);
});
after(() => gateway?.stop());

for (const codec of everyCodec) {
  describe(codec.name, { concurrency: true }, () => {
    test('publications arrive as they were, in a fraction of their bytes', async (t) => {
      const line = await Line.to(gateway.port);
      t.after(() => line.close());
      const client = await clients.connect(t, codec, { endpoint: line.endpoint });
      const sub = await subscribe(client, uniqueChannel('open'));
      const received = record(sub, 'publication');
      const before = line.received;
      const documents = Array.from({ length: 40 }, (_, n) => ({ n, text: 'over and over '.repeat(300) }));
      await Promise.all(documents.map((document) => gateway.publish(sub.channel, document)));
      await received.count(documents.length);
      const arrived = received.items.map(({ data }) => codec.unpack(data)).sort((a, b) => a.n - b.n);
      assert.deepEqual(arrived, documents);
      const [bytes, plain] = [line.received - before, JSON.stringify(documents).length];
      assert.ok(bytes < plain / 10, `${bytes} of ${plain} bytes`);
    });

    test('what a client compresses is understood', async (t) => {
      const client = await clients.connect(t, codec);
      const sub = await subscribe(client, uniqueChannel('open'));
      const received = record(sub, 'publication');
      const document = { text: 'again '.repeat(1_500) };
      await sub.publish(codec.pack(document));
      await received.count(1);
      assert.deepEqual(codec.unpack(received.items[0].data), document);
    });
  });
}

test('the answer names what was agreed on, and offers with another window are met', async () => {
  for (const [offer, agreed] of [
    [true, AGREED],
    [{ serverMaxWindowBits: 9 }, `${AGREED}; server_max_window_bits=9`],
    [{ clientMaxWindowBits: 10, serverNoContextTakeover: true }, AGREED],
    [false, ''],
  ]) {
    const { socket, extensions } = await open(offer);
    assert.equal(extensions, agreed, JSON.stringify(offer));
    const answer = within(PATIENCE_MS, 'an answer', new Promise((resolve) => socket.once('message', resolve)));
    socket.send(JSON.stringify({ id: 1, connect: { token: 'x'.repeat(2 * MIN_SIZE) } }), { compress: Boolean(offer) });
    const closed = new Promise((resolve) => socket.once('close', resolve));
    // An invalid token: the close tells that the message was understood.
    assert.equal(await Promise.race([answer.then(String, String), closed]), 3500);
    socket.terminate();
  }
});

test('a message that is too big after decompression closes the connection', async () => {
  const { socket } = await open(true);
  const closed = new Promise((resolve) => socket.once('close', (code, reason) => resolve([code, String(reason)])));
  socket.send(JSON.stringify({ id: 1, rpc: { method: 'x'.repeat(200_000) } }), { compress: true });
  assert.deepEqual(await within(PATIENCE_MS, 'a close', closed), [1009, 'message too big after decompression']);
});

async function open(perMessageDeflate) {
  const socket = new WebSocket(gateway.endpoint, { perMessageDeflate });
  let extensions = '';
  socket.once('upgrade', ({ headers }) => (extensions = headers['sec-websocket-extensions'] ?? ''));
  await within(PATIENCE_MS, 'an open socket', new Promise((resolve) => socket.once('open', resolve)));
  return { socket, extensions };
}
