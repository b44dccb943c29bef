// The playground: puts the panels together and turns what the client reports into what is seen.

import { publishFromElsewhere } from './away.js';
import { Connection } from './connection.js';
import { byId, count, el } from './dom.js';
import { Feed } from './feed.js';
import { Frames } from './frames.js';
import { Guide } from './guide.js';
import { HistoryPanel, PresencePanel, tabs } from './inspector.js';
import { parse } from './json.js';
import { showSnippets, wireCopyButtons } from './snippets.js';
import { wireTheme } from './theme.js';

const BIRDS = ['wren', 'finch', 'robin', 'lark', 'swift', 'martin', 'siskin', 'linnet', 'dunnock', 'pipit', 'starling', 'oriole'];
const SOCKET_URL = `${location.origin.replace(/^http/, 'ws')}/connection/websocket`;
const HOME = 'dev:lobby';

const user = byId('user');
const payload = byId('payload');
const frames = new Frames();
const feed = new Feed(HOME);
const client = new Connection({ url: SOCKET_URL, token: () => fetchToken(user.value), emit: happened });
const presence = new PresencePanel(client, () => shown);
new HistoryPanel(client, () => shown);
const guide = new Guide({
  connect: () => (client.state === 'offline' ? client.connect() : byId('user').focus()),
  subscribe: () => (client.state === 'online' ? client.subs.has(HOME) || client.subscribe(HOME) : byId('connect').focus()),
  publish: () => (byId('publish').disabled ? payload.focus() : publish()),
  second: openSecondTab,
  recover: () => (client.state === 'online' ? client.drop() : client.state === 'dropped' ? recover() : byId('connect').focus()),
});
let shown = HOME;
let awayCount = 0;

start();

function start() {
  user.value = somebody();
  payload.value = JSON.stringify({ text: `Hello from ${user.value}` });
  wireTheme();
  wireCopyButtons();
  wireForms();
  tabs((name) => { if (name === 'presence' && client.state === 'online') presence.load(); });
  drawState('offline');
  drawComposer();
  // A second tab opened from the guide comes in by itself.
  if (location.hash === '#join') {
    client.subscribe(HOME);
    client.connect();
  }
}

function wireForms() {
  onSubmit('connection-form', () => (client.state === 'dropped' ? recover() : client.connect()));
  onSubmit('subscribe-form', () => {
    const channel = byId('channel').value.trim();
    if (!client.subs.has(channel)) client.subscribe(channel);
    show(channel);
  });
  onSubmit('publish-form', publish);
  byId('disconnect').addEventListener('click', () => client.disconnect());
  byId('drop').addEventListener('click', () => client.drop());
  byId('recover').addEventListener('click', recover);
  byId('away-publish').addEventListener('click', publishWhileAway);
  byId('format').addEventListener('click', () => {
    const { value, error } = parse(payload.value);
    if (!error) payload.value = JSON.stringify(value, null, 2);
  });
  payload.addEventListener('input', drawComposer);
  user.addEventListener('input', drawComposer);
  payload.addEventListener('keydown', (event) => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) byId('publish-form').requestSubmit();
  });
}

// What the client reports, each kind to what shows it.
function happened(event) {
  const show = {
    state: ({ state, detail }) => drawState(state, detail),
    frame: (frame) => frames.add(frame),
    subscription: ({ sub }) => subscriptionChanged(sub),
    recovery: (recovery) => {
      feed.recovery(recovery, client.id);
      drawChannels();
      guide.done('recover');
    },
    publication: ({ channel, publication }) => {
      feed.publication(channel, publication, { own: client.id });
      drawChannels();
    },
    join: ({ channel, info }) => cameOrWent(channel, info, 'joined'),
    leave: ({ channel, info }) => cameOrWent(channel, info, 'left'),
    unsubscribed: ({ channel, code, reason }) => feed.note(channel, `The server ended this subscription: ${code} ${reason}`, 'bad'),
    trouble: ({ text }) => { byId('connection-note').textContent = text; },
    message: ({ data }) => feed.note(shown, `Message to this connection: ${JSON.stringify(data)}`),
  };
  show[event.type](event);
}

function subscriptionChanged(sub) {
  if (sub.state === 'subscribed') guide.done('subscribe');
  byId('channels-note').textContent = sub.state === 'refused' ? `${sub.channel}: ${sub.error}` : '';
  drawChannels();
  drawComposer();
}

function cameOrWent(channel, info, verb) {
  const self = info.client === client.id;
  feed.note(channel, `${info.user || 'somebody anonymous'}${self ? ' (this tab)' : ''} ${verb}`);
  if (!self && verb === 'joined') guide.done('second');
  if (channel === shown && presence.visible && client.state === 'online') presence.load();
}

function show(channel) {
  shown = channel;
  feed.show(channel);
  drawChannels();
  drawComposer();
  byId('presence').replaceChildren();
  byId('history').replaceChildren();
}

async function publish() {
  const { value, error } = parse(payload.value);
  if (error || client.state !== 'online') return;
  try {
    await client.publish(shown, value);
    guide.done('publish');
    drawComposer();
  } catch (refusal) {
    sayAboutPayload(`Not published: ${refusal.code} ${refusal.message}`, 'bad');
  }
}

async function publishWhileAway() {
  const button = byId('away-publish');
  const name = somebody();
  button.disabled = true;
  try {
    await publishFromElsewhere({
      url: SOCKET_URL,
      token: () => fetchToken(name),
      channel: shown,
      data: { text: `You missed this, says ${name}` },
      frame: (frame) => frames.add(frame, name),
    });
    awayCount += 1;
    byId('banner-text').textContent = `${count(awayCount, 'message')} published by others; this tab has not seen ${awayCount === 1 ? 'it' : 'them'}.`;
  } catch (error) {
    byId('banner-text').textContent = `The other connection failed: ${error.message}`;
  }
  button.disabled = false;
}

function recover() {
  awayCount = 0;
  client.connect();
}

function openSecondTab() {
  guide.done('second');
  window.open('/#join', '_blank', 'noopener');
}

async function fetchToken(name) {
  const answer = await fetch('/dev/token', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ user: name.trim() }),
  }).catch(() => { throw new Error('The server does not answer. Is it running?'); });
  if (!answer.ok) throw new Error(`POST /dev/token answered ${answer.status}. It exists under “bobolink serve --dev” only.`);
  return (await answer.json()).token;
}

function drawState(state, detail) {
  const online = state === 'online';
  const away = state === 'dropped' || state === 'waiting';
  const words = { offline: 'Not connected', connecting: 'Connecting', online: 'Connected', dropped: 'Dropped', waiting: 'Reconnecting' };
  byId('status').dataset.state = state;
  byId('status-text').textContent = words[state];
  user.readOnly = state !== 'offline';
  const connect = byId('connect');
  connect.hidden = online;
  connect.disabled = state === 'connecting';
  connect.textContent = away ? 'Reconnect' : state === 'connecting' ? 'Connecting' : 'Connect';
  byId('drop').hidden = !online;
  byId('disconnect').hidden = state === 'offline';
  byId('subscribe').disabled = !online;
  byId('connection-note').textContent = typeof detail === 'string' ? detail : '';
  byId('connection-facts').hidden = !online;
  if (online) drawWelcome(detail);
  drawBanner(state);
  drawChannels();
  drawComposer();
}

function drawWelcome({ client: id = '', version = '', ping = 0, pong = false }) {
  guide.done('connect');
  byId('fact-client').textContent = id;
  byId('fact-server').textContent = version || 'not told';
  byId('fact-ping').textContent = ping ? `every ${ping} s${pong ? ', answered' : ''}` : 'none';
}

function drawBanner(state) {
  byId('banner').hidden = state !== 'dropped';
  const offset = client.subs.get(shown)?.offset ?? 0;
  byId('banner-title').textContent = `Dropped at offset ${offset}.`;
  byId('banner-text').textContent = 'What others publish now, this tab misses. Have somebody publish, then recover.';
}

function drawChannels() {
  // The list is rebuilt; whoever walks it with the keyboard keeps their place.
  const focused = document.activeElement?.closest('#channels li')?.dataset.channel;
  byId('channels').replaceChildren(...[...client.subs.values()].map((sub) => {
    const unread = feed.unread(sub.channel);
    const open = el('button', { className: 'channel-open', type: 'button', 'aria-pressed': String(sub.channel === shown) },
      el('span', { className: 'channel-dot', dataset: { state: sub.state }, title: sub.state }),
      el('span', { className: 'channel-name mono' }, sub.channel),
      ...(unread ? [el('span', { className: 'tag' }, String(unread))] : []));
    open.addEventListener('click', () => show(sub.channel));
    const leave = el('button', { className: 'quiet small', type: 'button', title: 'Unsubscribe', 'aria-label': `Unsubscribe from ${sub.channel}` }, '×');
    leave.addEventListener('click', () => unsubscribe(sub.channel));
    return el('li', { dataset: { channel: sub.channel, state: sub.state } }, open, leave);
  }));
  if (focused) [...byId('channels').children].find((row) => row.dataset.channel === focused)?.firstElementChild.focus();
  const sub = client.subs.get(shown);
  byId('feed-position').textContent = sub?.epoch ? `offset ${sub.offset} · epoch ${sub.epoch}` : '';
}

async function unsubscribe(channel) {
  try {
    await client.unsubscribe(channel);
  } catch (error) {
    byId('channels-note').textContent = error.message;
  }
}

function drawComposer() {
  const { value, error } = parse(payload.value);
  byId('publish').disabled = Boolean(error) || client.state !== 'online';
  if (error) sayAboutPayload(error, 'bad');
  else sayAboutPayload(client.state === 'online' ? `Valid JSON, ${count(new Blob([payload.value]).size, 'byte')}` : 'Valid JSON. Connect to publish it.');
  showSnippets({ origin: location.origin, channel: shown, user: user.value, data: error ? {} : value });
}

function sayAboutPayload(text, kind = '') {
  const note = byId('payload-note');
  note.textContent = text;
  note.dataset.kind = kind;
  payload.setAttribute('aria-invalid', String(kind === 'bad'));
}

function somebody() {
  const bird = BIRDS[Math.floor(Math.random() * BIRDS.length)];
  return `${bird}-${Math.floor(Math.random() * 90) + 10}`;
}

function onSubmit(id, handler) {
  byId(id).addEventListener('submit', (event) => {
    event.preventDefault();
    handler();
  });
}
