// The messages of each channel as they come, and the notes between them.

import { appendBounded, byId, clock, count, el } from './dom.js';
import { render } from './json.js';

const KEEP = 300;

export class Feed {
  #list = byId('messages');
  #scroller = byId('scroller');
  #rows = new Map();
  #unread = new Map();
  #channel;

  constructor(channel) {
    this.show(channel);
  }

  /** Switches to another channel's messages. */
  show(channel) {
    this.#channel = channel;
    this.#unread.delete(channel);
    byId('feed-title').textContent = channel;
    this.#list.replaceChildren(...this.#of(channel));
    if (this.#of(channel).length === 0) this.#list.append(this.#invitation());
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
  }

  unread(channel) {
    return this.#unread.get(channel) ?? 0;
  }

  publication(channel, publication, { recovered = false, own = '' } = {}) {
    const { data, offset, info, tags } = publication;
    const author = info?.user || 'server API';
    this.#add(channel, el('li', { className: 'message', dataset: { offset: String(offset ?? ''), recovered: String(recovered), own: String(info?.client === own) } },
      el('div', { className: 'message-head' },
        offset ? el('span', { className: 'offset', title: 'Offset in the stream' }, `#${offset}`) : el('span', { className: 'offset', title: 'Not kept in history' }, 'live'),
        el('strong', {}, author),
        ...(recovered ? [el('span', { className: 'tag' }, 'recovered')] : []),
        ...Object.entries(tags ?? {}).map(([key, value]) => el('span', { className: 'tag plain' }, `${key}=${value}`)),
        el('time', {}, clock(new Date()).slice(0, 8))),
      el('pre', { className: 'message-data' }, render(data))));
    if (channel !== this.#channel) this.#unread.set(channel, this.unread(channel) + 1);
  }

  /** A line between messages; `kind` is `quiet`, `good` or `bad`. */
  note(channel, text, kind = 'quiet') {
    this.#add(channel, el('li', { className: 'feed-note', dataset: { kind } }, el('span', {}, text)));
  }

  /** The channel is back after an absence, with what was published meanwhile. */
  recovery({ sub, recovered, publications }, own) {
    if (!recovered) {
      this.note(sub.channel, 'Not recovered (was_recovering: true, recovered: false). History no longer reaches back to this tab’s position: reload your state.', 'bad');
      return;
    }
    for (const publication of publications) this.publication(sub.channel, publication, { recovered: true, own });
    const what = publications.length ? `${count(publications.length, 'missed message')} came back` : 'Nothing was missed';
    this.note(sub.channel, `${what} (was_recovering: true, recovered: true)`, 'good');
  }

  #of(channel) {
    if (!this.#rows.has(channel)) this.#rows.set(channel, []);
    return this.#rows.get(channel);
  }

  #add(channel, row) {
    const rows = this.#of(channel);
    rows.push(row);
    if (rows.length > KEEP) rows.shift();
    if (channel !== this.#channel) return;
    this.#list.querySelector('.invitation')?.remove();
    appendBounded(this.#list, row, KEEP, this.#scroller);
  }

  #invitation() {
    return el('li', { className: 'invitation' },
      el('p', {}, 'Nothing here yet.'),
      el('p', {}, 'Subscribe to this channel and publish below, or let another tab do it: every subscriber sees each message with its offset.'));
  }
}
