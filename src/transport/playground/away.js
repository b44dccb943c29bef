// A second, short-lived connection, to publish while the main one is away.

import { Client } from './client.js';

const GIVE_UP_MS = 8000;

/** Connects as somebody else, publishes once and leaves. `frame` hears what went over the wire. */
export function publishFromElsewhere({ url, token, channel, data, frame }) {
  return new Promise((resolve, reject) => {
    const finish = (settle, value) => {
      clearTimeout(timer);
      client.disconnect();
      settle(value);
    };
    const client = new Client({
      url,
      token,
      emit(event) {
        if (event.type === 'frame') frame(event);
        if (event.type === 'state' && event.state === 'offline' && event.detail) finish(reject, new Error(event.detail));
        if (event.type !== 'subscription') return;
        if (event.sub.state === 'refused') finish(reject, new Error(event.sub.error));
        if (event.sub.state !== 'subscribed') return;
        client.request('publish', { channel, data }).then((result) => finish(resolve, result), (error) => finish(reject, error));
      },
    });
    const timer = setTimeout(() => finish(reject, new Error('the second connection got no answer')), GIVE_UP_MS);
    // A namespace may let only subscribers publish.
    client.subscribe(channel);
    client.connect();
  });
}
