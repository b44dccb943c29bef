/** Who is in the room, and who of them is typing. */

import type { Person } from '../people.js';
import type { Room } from '../room.js';
import type { Session } from '../session.js';
import { avatar, byId, el, keyed } from './dom.js';

export class PeopleView {
  readonly #panel = byId('people-panel', HTMLElement);
  readonly #list = byId('people', HTMLUListElement);
  readonly #title = byId('people-title', HTMLHeadingElement);
  readonly #button = byId('people-button', HTMLButtonElement);
  readonly #count = byId('people-count', HTMLSpanElement);
  readonly #typing = byId('typing', HTMLParagraphElement);
  readonly #typingText = byId('typing-text', HTMLSpanElement);

  constructor() {
    this.#button.addEventListener('click', () => this.#open(!this.#isOpen));
    byId('people-close', HTMLButtonElement).addEventListener('click', () => this.#open(false));
    this.#panel.addEventListener('keydown', ({ key }) => {
      if (key === 'Escape') {
        this.#open(false);
      }
    });
  }

  draw(session: Session, room: Room): void {
    const { user } = session;
    const people = room.people.list(user).map((person) => ({ key: person.user, person, me: person.user === user }));
    keyed(this.#list, people, ({ person, me }) => line(person, me));
    // Without a connection nobody comes or goes on this list, whatever they do.
    const known = session.state.name === 'connected';
    this.#title.textContent = known ? `${people.length} here` : 'Who was here';
    this.#panel.dataset.stale = String(!known);
    this.#count.textContent = String(people.length);
  }

  drawTyping(session: Session, room: Room): void {
    const known = session.state.name === 'connected';
    const text = typingText(known ? session.typingIn(room.name).users : []);
    this.#typingText.textContent = text;
    this.#typing.classList.toggle('shown', text !== '');
  }

  get #isOpen(): boolean {
    return this.#panel.classList.contains('open');
  }

  /** On a narrow screen the panel lies over the room. */
  #open(open: boolean): void {
    this.#panel.classList.toggle('open', open);
    this.#button.setAttribute('aria-expanded', String(open));
    (open ? byId('people-close', HTMLButtonElement) : this.#button).focus();
  }
}

/** `ada is typing`, and so on up to a crowd. */
export function typingText(users: readonly string[]): string {
  const [first, second] = users;
  if (first === undefined) {
    return '';
  }
  if (second === undefined) {
    return `${first} is typing`;
  }
  return users.length === 2 ? `${first} and ${second} are typing` : 'Several people are typing';
}

function line({ user, connections }: Person, me: boolean): HTMLElement {
  const devices = connections > 1 ? el('span', 'devices', { title: 'Tabs and devices' }, `×${connections}`) : '';
  return el('li', 'person', { 'data-user': user }, avatar(user), el('span', 'person-name', {}, user), me ? el('span', 'you', {}, 'you') : '', devices);
}
