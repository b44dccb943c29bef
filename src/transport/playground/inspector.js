// The tabs beside the messages, and the two that ask the server: presence and history.

import { byId, count, el } from './dom.js';
import { render } from './json.js';

const TABS = ['frames', 'presence', 'history', 'code'];

/** Makes the tab list work by pointer and by arrow keys; `opened` hears the tab's name. */
export function tabs(opened) {
  const buttons = TABS.map((name) => byId(`tab-${name}`));
  const open = (index) => {
    buttons.forEach((button, at) => {
      button.setAttribute('aria-selected', String(at === index));
      button.tabIndex = at === index ? 0 : -1;
      byId(`panel-${TABS[at]}`).hidden = at !== index;
    });
    opened(TABS[index]);
  };
  buttons.forEach((button, index) => {
    button.addEventListener('click', () => open(index));
    button.addEventListener('keydown', (event) => {
      const last = TABS.length - 1;
      const to = { ArrowRight: index === last ? 0 : index + 1, ArrowLeft: index === 0 ? last : index - 1, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      event.preventDefault();
      open(to);
      buttons[to].focus();
    });
  });
}

export class PresencePanel {
  #client;
  #channel;

  /** `channel` is a function giving the channel that is shown. */
  constructor(client, channel) {
    this.#client = client;
    this.#channel = channel;
    byId('presence-load').addEventListener('click', () => this.load());
    byId('presence-stats-load').addEventListener('click', () => this.#stats());
  }

  get visible() {
    return !byId('panel-presence').hidden;
  }

  async load() {
    const channel = this.#channel();
    await answerInto('presence-summary', async () => {
      const presence = await this.#client.presence(channel);
      const people = Object.values(presence).sort((a, b) => a.user.localeCompare(b.user));
      byId('presence').replaceChildren(...people.map((info) => this.#person(info)));
      return `${count(people.length, 'connection')} in ${channel}`;
    });
  }

  async #stats() {
    const channel = this.#channel();
    await answerInto('presence-summary', async () => {
      const { clients, users } = await this.#client.presenceStats(channel);
      return `${count(clients, 'connection')}, ${count(users, 'user')} in ${channel}`;
    });
  }

  #person(info) {
    return el('li', { className: 'person', dataset: { user: info.user } },
      el('span', { className: 'avatar', 'aria-hidden': 'true' }, (info.user || '?').slice(0, 1).toUpperCase()),
      el('strong', {}, info.user || 'anonymous'),
      ...(info.client === this.#client.id ? [el('span', { className: 'tag plain' }, 'this tab')] : []),
      el('code', { className: 'dim' }, info.client));
  }
}

export class HistoryPanel {
  constructor(client, channel) {
    byId('history-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#load(client, channel());
    });
  }

  async #load(client, channel) {
    const options = { limit: Number(byId('history-limit').value), reverse: byId('history-reverse').checked };
    await answerInto('history-summary', async () => {
      const { publications, position: { offset, epoch } } = await client.history(channel, options);
      byId('history').replaceChildren(...publications.map(pastMessage));
      return `${count(publications.length, 'publication')} of ${channel}; the stream is at offset ${offset}, epoch ${epoch}`;
    });
  }
}

function pastMessage({ offset = 0, info, data }) {
  return el('li', { className: 'message', dataset: { offset: String(offset) } },
    el('div', { className: 'message-head' },
      el('span', { className: 'offset' }, `#${offset}`), el('strong', {}, info?.user || 'server API')),
    el('pre', { className: 'message-data' }, render(data)));
}

async function answerInto(id, ask) {
  const note = byId(id);
  try {
    note.textContent = await ask();
    delete note.dataset.kind;
  } catch (error) {
    note.textContent = error.message === 'not connected' ? 'Connect first.' : `The server refused: ${error.code} ${error.message}`;
    note.dataset.kind = 'bad';
  }
}
