// What an application does first, in whatever runtime this is: connects, subscribes, publishes, loses the
// connection and recovers. The test process cuts the line when it is told that it is time.
//
//   <runtime> smoke.mjs PACKAGE ENDPOINT TOKEN CHANNEL json|protobuf

const [folder, endpoint, token, channel, codecName] = globalThis.Deno?.args ?? process.argv.slice(2);

const { Client } = await import(`${folder}/index.js`);
const { protobuf } = await import(`${folder}/protobuf.js`);
// Node.js before 22 has no WebSocket of its own.
const websocket = globalThis.WebSocket ?? (await import('../../../sdk-js/node_modules/ws/wrapper.mjs')).default;

const codec = codecName === 'protobuf' ? protobuf : undefined;
const client = new Client(endpoint, { token, codec, websocket, minReconnectDelay: 20, maxReconnectDelay: 200 });
const subscription = client.subscription(channel);
const heard = [];
const recoveries = [];
subscription.on('subscribed', ({ wasRecovering, recovered }) => {
  if (wasRecovering) recoveries.push(recovered);
});
client.on('connecting', ({ code }) => {
  if (code !== 0) console.log('lost');
});
const all = new Promise((resolve) => {
  subscription.on('publication', ({ data }) => {
    heard.push(data.n);
    if (data.n === 1) console.log('ready');
    if (data.n === 20) resolve();
  });
});

client.connect();
subscription.subscribe();
await subscription.ready(10_000);
await subscription.publish({ n: 1, text: 'ü€😀' });
await all;
const { publications } = await subscription.history({ limit: -1 });
client.close();
console.log(JSON.stringify({ heard, recoveries, kept: publications.length }));
