// A second, short-lived connection, to publish while the main one is away.

import { Client, webSocketTransport } from './bobolink.js';
import { watched } from './wire.js';

const GIVE_UP_MS = 8000;

/** Connects as somebody else, publishes once and leaves. `frame` hears what went over the wire. */
export async function publishFromElsewhere({ url, token, channel, data, frame }) {
  const saw = (way, text) => frame({ way, message: JSON.parse(text), text });
  const client = new Client(url, { getToken: token, transport: watched(webSocketTransport(), saw) });
  try {
    client.connect();
    // A namespace may let only subscribers publish.
    const subscription = client.subscription(channel).subscribe();
    await Promise.all([client.ready(GIVE_UP_MS), subscription.ready(GIVE_UP_MS)]);
    await subscription.publish(data);
  } finally {
    client.close();
  }
}
