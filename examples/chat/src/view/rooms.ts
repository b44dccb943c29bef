/** The list of rooms, and how to open another. */

import { NAME_RULE, roomName } from '../names.js';
import type { Room } from '../room.js';
import type { Session } from '../session.js';
import { byId, el, icon, keyed } from './dom.js';

interface Line {
  readonly key: string;
  readonly open: boolean;
  readonly unread: number;
  readonly last: string;
  readonly people: number;
  readonly state: Room['state'];
}

export class RoomsView {
  readonly #list = byId('rooms', HTMLUListElement);
  readonly #form = byId('new-room', HTMLFormElement);
  readonly #name = byId('new-room-name', HTMLInputElement);
  readonly #error = byId('new-room-error', HTMLParagraphElement);

  constructor(readonly open: (name: string) => void) {
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#create();
    });
    this.#name.addEventListener('input', () => this.#say(''));
  }

  draw(session: Session, shown: string | undefined): void {
    const lines = [...session.rooms.values()].map((room) => lineOf(room, session, shown));
    keyed(this.#list, lines, (line) => this.#draw(line));
    const unread = [...session.rooms.values()].reduce((sum, room) => sum + room.unread, 0);
    document.title = `${unread ? `(${unread}) ` : ''}${shown ? `${shown} · ` : ''}Bobolink chat`;
  }

  #draw({ key, open, unread, last, people, state }: Line): HTMLElement {
    const attributes = { type: 'button', ...(open ? { 'aria-current': 'page' } : undefined) };
    const refused = state.name === 'refused' ? `Refused: ${state.reason}` : last;
    const button = el('button', 'room-line', attributes, el('span', 'room-icon', {}, icon('hash')));
    button.append(
      el('span', 'room-name', {}, key),
      unread ? el('span', 'badge', {}, String(unread), el('span', 'unseen', {}, ' unread')) : el('span', 'room-people', people ? { title: 'People here now' } : {}, people ? icon('person') : '', people ? String(people) : '', el('span', 'unseen', {}, people ? ' here' : '')),
      el('span', state.name === 'refused' ? 'room-last bad' : 'room-last', {}, refused || 'Nothing said yet'),
    );
    button.addEventListener('click', () => this.open(key));
    return el('li', '', {}, button);
  }

  #create(): void {
    const name = roomName(this.#name.value);
    if (!name) {
      this.#say(NAME_RULE);
      return;
    }
    this.#name.value = '';
    this.open(name);
  }

  #say(error: string): void {
    this.#error.textContent = error;
    this.#name.setAttribute('aria-invalid', String(error !== ''));
  }
}

function lineOf(room: Room, session: Session, shown: string | undefined): Line {
  const outgoing = session.outgoing.of(room.channel).at(-1)?.message.text;
  const entry = room.timeline.entries.at(-1);
  const said = entry && `${entry.author === session.user ? 'You' : entry.author || 'Server'}: ${entry.message.text}`;
  return {
    key: room.name,
    open: room.name === shown,
    unread: room.unread,
    last: outgoing === undefined ? (said ?? '') : `You: ${outgoing}`,
    people: room.people.list(session.user).length,
    state: room.state,
  };
}
