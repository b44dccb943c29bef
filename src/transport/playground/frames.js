// The frames panel: what went over the wire, one row a command or reply.

import { appendBounded, byId, clock, copy, el, remembered } from './dom.js';
import { colour, render } from './json.js';

const KEEP = 400;

export class Frames {
  #log = [];
  #list = byId('frames');
  #pretty = byId('frames-pretty');
  #pings = byId('frames-pings');
  #pingCount = 0;

  constructor() {
    this.#pretty.checked = remembered.get('pretty') === 'yes';
    this.#pretty.addEventListener('change', () => {
      remembered.set('pretty', this.#pretty.checked ? 'yes' : 'no');
      this.#redraw();
    });
    this.#pings.addEventListener('change', () => this.#redraw());
    byId('frames-clear').addEventListener('click', () => this.#clear());
    byId('frames-copy').addEventListener('click', (event) => copy(this.#asText(), event.currentTarget));
  }

  /** Adds what went `out` or came `in`; `by` names a connection other than the main one. */
  add({ way, message, text }, by = '') {
    const entry = { way, message, text, by, at: new Date(), kind: kindOf(way, message) };
    if (isPing(entry)) byId('frames-ping-count').textContent = String(++this.#pingCount);
    this.#log.push(entry);
    if (this.#log.length > KEEP) this.#log.shift();
    this.#draw(entry);
  }

  #draw(entry) {
    if (isPing(entry) && !this.#pings.checked) return;
    byId('frames-empty').hidden = true;
    const body = el('pre', { className: 'frame-body' }, this.#pretty.checked ? render(entry.message, { pretty: true }) : colour(entry.text));
    const copyButton = el('button', { className: 'quiet small frame-copy', type: 'button', 'aria-label': `Copy ${entry.kind}` }, 'Copy');
    copyButton.addEventListener('click', () => copy(entry.text, copyButton));
    const row = el('li', { className: 'frame', dataset: { way: entry.way, kind: entry.kind } },
      el('span', { className: 'frame-way', title: entry.way === 'out' ? 'sent' : 'received' }, entry.way === 'out' ? '↑' : '↓',
        el('span', { className: 'unseen' }, entry.way === 'out' ? 'sent' : 'received')),
      el('span', { className: 'frame-kind' }, entry.kind),
      ...(entry.by ? [el('span', { className: 'tag' }, entry.by)] : []),
      el('time', { className: 'frame-time' }, clock(entry.at)),
      copyButton,
      body);
    appendBounded(this.#list, row, KEEP);
  }

  #redraw() {
    this.#list.replaceChildren();
    for (const entry of this.#log) this.#draw(entry);
    this.#list.scrollTop = this.#list.scrollHeight;
  }

  #clear() {
    this.#log = [];
    this.#list.replaceChildren();
    byId('frames-empty').hidden = false;
  }

  #asText() {
    return this.#log
      .filter((entry) => this.#pings.checked || !isPing(entry))
      .map(({ at, way, by, text }) => `${clock(at)} ${way === 'out' ? '->' : '<-'} ${by ? `(${by}) ` : ''}${text}`)
      .join('\n');
  }
}

const isPing = (entry) => entry.kind === 'ping' || entry.kind === 'pong';

function kindOf(way, message) {
  const names = Object.keys(message).filter((name) => name !== 'id');
  if (names.length === 0) return way === 'out' ? 'pong' : 'ping';
  if (message.push) return `push ${Object.keys(message.push).find((name) => name !== 'channel' && name !== 'id') ?? ''}`;
  if (message.error) return `error ${message.error.code}`;
  return names[0];
}
