/** The state of the connection, in words that are true. */

import { count } from '../rows.js';
import type { Session } from '../session.js';
import { byId } from './dom.js';

export interface Told {
  readonly state: 'online' | 'connecting' | 'offline' | 'ended';
  readonly title: string;
  /** What it means for who is writing; empty when all is well. */
  readonly text: string;
}

/** What to tell of a connection. */
export function tell(session: Pick<Session, 'state' | 'offline'> & { outgoing: Pick<Session['outgoing'], 'waiting'> }): Told {
  const { state, offline, outgoing } = session;
  const waiting = outgoing.waiting ? ` ${sentence(count(outgoing.waiting, 'message'))} waiting.` : '';
  if (state.name === 'connected') {
    return { state: 'online', title: 'Connected', text: '' };
  }
  if (state.name !== 'connecting') {
    const { code, reason } = state.name === 'disconnected' ? state : { code: 0, reason: 'closed' };
    const error = state.name === 'disconnected' ? state.error?.message : undefined;
    return { state: 'ended', title: 'Disconnected', text: `${sentence(error ?? reason)} (${code}).${waiting}` };
  }
  if (offline) {
    return { state: 'offline', title: 'Offline', text: `You can go on writing: it is sent, in order, once you are back.${waiting}` };
  }
  const text = `The server does not answer. What you write is kept and sent when it does.${waiting}`;
  return { state: 'connecting', title: 'Connecting', text: state.code === 0 ? '' : text };
}

export class ConnectionView {
  /** In the room and, where that is a page of its own, over the list of rooms. */
  readonly #statuses = document.querySelectorAll<HTMLElement>('.status');
  readonly #notice = byId('notice', HTMLDivElement);
  readonly #text = byId('notice-text', HTMLParagraphElement);
  readonly #again = byId('notice-again', HTMLButtonElement);
  readonly #switch = byId('offline-switch', HTMLButtonElement);

  constructor(readonly session: () => Session | undefined) {
    this.#again.addEventListener('click', () => session()?.connect());
    this.#switch.addEventListener('click', () => {
      const now = session();
      now?.pretendOffline(!now.pretending);
    });
  }

  draw(): void {
    const session = this.session();
    if (!session) {
      return;
    }
    const { state, title, text } = tell(session);
    for (const status of this.#statuses) {
      status.dataset.state = state;
      this.#say(status.querySelector('.status-title'), title);
    }
    this.#say(this.#text, text);
    this.#notice.hidden = text === '';
    this.#notice.dataset.state = state;
    this.#again.hidden = state !== 'ended';
    this.#switch.setAttribute('aria-checked', String(session.pretending));
  }

  /** A live region speaks when its text is set, even to the same. */
  #say(element: Element | null, text: string): void {
    if (element && element.textContent !== text) {
      element.textContent = text;
    }
  }
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
