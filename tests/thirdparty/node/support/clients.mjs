// SDK clients in both encodings of the protocol, with a view of their raw frames.

import { Centrifuge as JsonCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import { randomUUID } from 'node:crypto';
import WebSocket from 'ws';

import { jsonReplies, protobufReplies } from './frames.mjs';
import { connectionToken } from './tokens.mjs';
import { PATIENCE_MS, Record } from './waiting.mjs';

const json = {
  name: 'json',
  Centrifuge: JsonCentrifuge,
  /** A value as the SDK takes and gives payloads in this encoding. */
  pack: (value) => value,
  unpack: (data) => data,
  replies: jsonReplies,
};

const protobuf = {
  name: 'protobuf',
  Centrifuge: ProtobufCentrifuge,
  pack: (value) => new TextEncoder().encode(JSON.stringify(value)),
  // What is absent decodes to no bytes.
  unpack: (data) => (data?.length ? JSON.parse(new TextDecoder().decode(data)) : undefined),
  replies: protobufReplies,
};

export const codecs = { json, protobuf };
export const everyCodec = [json, protobuf];

/** A channel of the namespace that no other test uses. */
export function uniqueChannel(namespace) {
  return `${namespace}:${randomUUID()}`;
}

/** Makes clients of one gateway and closes them after the test that asked for them. */
export class Clients {
  constructor(gateway) {
    this.gateway = gateway;
  }

  /**
   * A client of `user`, not connected yet. It comes with `wire`: its sent frames and the replies it
   * was sent. Other options are those of the SDK.
   */
  make(t, codec, { user = 'anna', endpoint = this.gateway.endpoint, ...options } = {}) {
    const wire = { sent: new Record('frame sent'), replies: new Record('reply received') };
    const client = new codec.Centrifuge(endpoint, {
      token: 'getToken' in options ? '' : connectionToken(user),
      websocket: watchedSocket(codec, wire),
      minReconnectDelay: 20,
      maxReconnectDelay: 200,
      // Giving up on a machine that only stands still would look like a lost connection.
      timeout: PATIENCE_MS,
      ...options,
    });
    // Without a listener the emitter would throw; tests that expect errors add their own.
    client.on('error', () => {});
    client.wire = wire;
    t.after(() => client.disconnect());
    return client;
  }

  async connect(t, codec, options) {
    const client = this.make(t, codec, options);
    client.connect();
    await client.ready(PATIENCE_MS);
    return client;
  }
}

/** A subscription that is live. Events must be recorded in `before`, lest early ones are missed. */
export async function subscribe(client, channel, options = {}, before = () => {}) {
  const sub = client.newSubscription(channel, { minResubscribeDelay: 20, maxResubscribeDelay: 200, ...options });
  sub.on('error', () => {});
  before(sub);
  sub.subscribe();
  await sub.ready(PATIENCE_MS);
  return sub;
}

function watchedSocket(codec, wire) {
  return class extends WebSocket {
    constructor(...args) {
      super(...args);
      this.on('message', (data) => codec.replies(Buffer.from(data)).forEach((reply) => wire.replies.add(reply)));
    }

    send(data, ...rest) {
      wire.sent.add(typeof data === 'string' ? data : Buffer.from(data));
      super.send(data, ...rest);
    }
  };
}
