// The same thing from the outside: what a backend and an SDK would do for the channel on screen.

import { byId, copy } from './dom.js';

/** Fills the code tab; called whenever the channel, the name or the data changes. */
export function showSnippets({ origin, channel, user, data }) {
  byId('snippet-curl').textContent = curl(origin, channel, data);
  byId('snippet-js').textContent = sdk(origin, channel, user);
}

export function wireCopyButtons() {
  for (const name of ['curl', 'js']) {
    byId(`copy-${name}`).addEventListener('click', (event) => copy(byId(`snippet-${name}`).textContent, event.currentTarget));
  }
}

function curl(origin, channel, data) {
  const body = JSON.stringify({ channel, data }).replaceAll("'", String.raw`'\''`);
  return `curl -X POST ${origin}/api/publish \\
  -H "X-API-Key: $BOBOLINK_API_KEY" \\
  -H 'Content-Type: application/json' \\
  -d '${body}'`;
}

function sdk(origin, channel, user) {
  const text = (value) => JSON.stringify(value);
  return `// npm install @bobolink/client
import { Client } from '@bobolink/client';

const client = new Client(${text(`${origin.replace(/^http/, 'ws')}/connection/websocket`)}, {
  getToken: async () => {
    const answer = await fetch(${text(`${origin}/dev/token`)}, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ user: ${text(user)} }),
    });
    return (await answer.json()).token;
  },
});

client.connect();

const sub = client.subscription(${text(channel)}, {
  recoverable: true,
  joinLeave: true,
});
sub.on('publication', ({ offset, data }) => console.log(offset, data));
sub.subscribe();`;
}
