/** Where one writes. It never waits for the network: what is written goes to the outbox. */

import { MAX_TEXT, newMessage } from '../message.js';
import type { Room } from '../room.js';
import type { Session } from '../session.js';
import { byId } from './dom.js';

/** Letters before the limit from which on it is said. */
const WARN_BEFORE = 200;

export class Composer {
  readonly #form = byId('composer', HTMLFormElement);
  readonly #text = byId('text', HTMLTextAreaElement);
  readonly #left = byId('letters-left', HTMLSpanElement);
  readonly #send = byId('send', HTMLButtonElement);
  /** What was begun in rooms that are not open. */
  readonly #drafts = new Map<string, string>();

  constructor(readonly open: () => { session: Session; room: Room } | undefined) {
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#text.addEventListener('input', () => this.#changed());
    this.#text.addEventListener('keydown', (event) => {
      // While a composition is open, as for Japanese, Enter belongs to it.
      if (event.key === 'Enter' && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.#submit();
      }
    });
    this.#fit();
  }

  focus(): void {
    this.#text.focus();
  }

  /** Nothing can be said in a room that refuses one. */
  draw(): void {
    const refused = this.#isRefused();
    if (refused !== this.#text.disabled) {
      this.#text.disabled = refused;
      this.#fit();
    }
  }

  /** Another room is open. */
  switched(from: string | undefined, to: string): void {
    if (from) {
      this.#drafts.set(from, this.#text.value);
    }
    this.#text.value = this.#drafts.get(to) ?? '';
    this.#fit();
  }

  #submit(): void {
    const place = this.open();
    const text = this.#text.value.trim();
    if (!place || !text || text.length > MAX_TEXT || this.#isRefused()) {
      return;
    }
    place.session.send(place.room, newMessage(text)).catch((error: unknown) => this.#giveBack(text, error));
    place.session.typingIn(place.room.name).stopped();
    this.#text.value = '';
    this.#fit();
  }

  /** What could not be kept is in its writer's hands again. */
  #giveBack(text: string, error: unknown): void {
    this.#text.value = [text, this.#text.value].filter(Boolean).join('\n');
    this.#fit();
    this.#left.textContent = error instanceof Error ? error.message : 'not kept';
    this.#left.classList.add('over');
  }

  #changed(): void {
    const place = this.open();
    const typing = place?.session.typingIn(place.room.name);
    if (this.#text.value.trim()) {
      typing?.typed(Date.now());
    } else {
      typing?.stopped();
    }
    this.#fit();
  }

  #isRefused(): boolean {
    return this.open()?.room.state.name === 'refused';
  }

  #fit(): void {
    const left = MAX_TEXT - this.#text.value.trim().length;
    this.#left.textContent = left < WARN_BEFORE ? String(left) : '';
    this.#left.classList.toggle('over', left < 0);
    this.#send.disabled = left < 0 || left === MAX_TEXT || this.#isRefused();
    this.#text.style.height = 'auto';
    this.#text.style.height = `${this.#text.scrollHeight + 2}px`;
  }
}
