/** The messages of the open room, with a place that the reader keeps while others come. */

import { count, rows, type MessageRow, type NoteRow, type Row } from '../rows.js';
import type { Room } from '../room.js';
import type { Session } from '../session.js';
import { KEEP } from '../timeline.js';
import { avatar, byId, el, icon, keyed } from './dom.js';

/** Pixels from the end within which the reader follows what is new. */
const NEAR = 80;

const STATES: Record<MessageRow['state'], { icon: string; text: string }> = {
  kept: { icon: 'check', text: '' },
  sent: { icon: 'check', text: 'Sent' },
  sending: { icon: 'clock', text: 'Sending' },
  waiting: { icon: 'clock', text: 'Waiting to be sent' },
  failed: { icon: 'alert', text: 'Not sent' },
};

export class Conversation {
  readonly #scroller = byId('scroller', HTMLDivElement);
  readonly #log = byId('log', HTMLDivElement);
  readonly #list = byId('messages', HTMLOListElement);
  readonly #earlier = byId('earlier', HTMLButtonElement);
  readonly #beginning = byId('beginning', HTMLParagraphElement);
  readonly #empty = byId('empty', HTMLParagraphElement);
  readonly #newer = byId('newer', HTMLButtonElement);
  #room: Room | undefined;
  #following = true;
  /** Where the list was when that was last looked at. */
  #top = 0;
  #unseen = 0;

  constructor(readonly session: () => Session | undefined) {
    this.#scroller.addEventListener('scroll', () => this.#scrolled());
    this.#newer.addEventListener('click', () => this.#toEnd());
    this.#earlier.addEventListener('click', () => void this.#room?.loadEarlier());
    // Whoever scrolls up wants to read on; the button is for who does not scroll.
    new IntersectionObserver(
      (seen) => {
        if (seen.some(({ isIntersecting }) => isIntersecting) && !this.#room?.trouble) {
          void this.#room?.loadEarlier();
        }
      },
      { root: this.#scroller, rootMargin: '120px' },
    ).observe(this.#earlier);
  }

  show(room: Room): void {
    this.#room = room;
    this.#log.setAttribute('aria-live', 'off');
    this.#list.replaceChildren();
    this.#unseen = 0;
    this.draw();
    this.#toEnd();
  }

  draw(): void {
    const [session, room] = [this.session(), this.#room];
    if (!session || !room) {
      return;
    }
    // A scroll is there before its event, and must not be undone by what comes in between.
    if (this.#scroller.scrollTop !== this.#top) {
      this.#scrolled();
    }
    const list = rows(room.timeline, session.outgoing.of(room.channel), session.user);
    const fromEnd = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    const [oldest, length] = [this.#list.firstElementChild, this.#list.childElementCount];
    // Only what is added at the end is news to be read out.
    this.#log.setAttribute('aria-live', length === 0 || room.busy ? 'off' : 'polite');
    keyed(this.#list, list, (row) => this.#draw(row));
    this.#log.setAttribute('aria-busy', String(room.busy));
    this.#drawPast(room, list.length > 0);
    this.#keepPlace(fromEnd, this.#list.firstElementChild !== oldest, this.#list.childElementCount - length);
  }

  /** What there is above the messages. */
  #drawPast(room: Room, some: boolean): void {
    const { hasEarlier, trouble, busy, timeline } = room;
    this.#earlier.hidden = !hasEarlier && !trouble;
    this.#earlier.disabled = busy;
    this.#earlier.textContent = trouble ? `Not loaded: ${trouble}. Try again` : 'Earlier messages';
    this.#beginning.hidden = hasEarlier || trouble !== '' || busy || !some;
    this.#beginning.textContent = timeline.full ? `A page shows no more than ${KEEP} messages.` : 'This is where it begins.';
    this.#empty.hidden = some || room.state.name !== 'joined' || busy || trouble !== '';
  }

  #draw(row: Row): HTMLElement {
    return row.kind === 'note' ? note(row) : this.#bubble(row);
  }

  #bubble(row: MessageRow): HTMLElement {
    const { author, own, at, text, state, first, last } = row;
    const name = author || 'Server';
    const item = el('li', 'message', { 'data-own': String(own), 'data-state': state, 'data-id': row.id });
    item.dataset.offset = String(row.offset ?? '');
    item.classList.toggle('first', first);
    item.classList.toggle('last', last);
    item.append(own ? '' : avatar(author));
    const heard = el('span', own || !first ? 'unseen' : 'author', {}, own ? 'You: ' : name, own ? '' : el('span', 'unseen', {}, ': '));
    const bubble = el('div', 'bubble', { dir: 'auto' }, el('span', 'text', {}, ...linked(text)));
    item.append(el('div', 'said', {}, heard, bubble, this.#foot(row, at)));
    return item;
  }

  #foot(row: MessageRow, at: number): HTMLElement {
    const foot = el('div', 'foot');
    if (at > 0) {
      const date = new Date(at);
      const time = date.toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
      foot.append(el('time', '', { datetime: date.toISOString(), title: date.toLocaleString() }, time));
    }
    if (row.own) {
      const { icon: symbol, text } = STATES[row.state];
      foot.append(el('span', 'state', row.state === 'kept' ? { title: this.#promise(row.id) } : {}, icon(symbol), text));
    }
    if (row.state === 'failed') {
      const outgoing = this.session()?.outgoing;
      foot.append(el('span', 'reason', {}, row.reason ?? ''));
      foot.append(action('Try again', () => void outgoing?.retry(row.id)), action('Delete', () => void outgoing?.discard(row.id)));
    }
    return foot;
  }

  #promise(id: string): string {
    const delivery = this.session()?.outgoing.delivery(id);
    return `Kept by the server${delivery ? `, ${delivery}` : ''}`;
  }

  #keepPlace(fromEnd: number, prepended: boolean, added: number): void {
    if (this.#following) {
      this.#toEnd();
      return;
    }
    if (prepended) {
      this.#scroller.scrollTop = this.#scroller.scrollHeight - fromEnd;
      this.#top = this.#scroller.scrollTop;
    } else if (added > 0) {
      this.#unseen += added;
    }
    this.#drawNewer();
  }

  #scrolled(): void {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR;
    this.#top = scrollTop;
    if (this.#following) {
      this.#unseen = 0;
    }
    this.#drawNewer();
  }

  #drawNewer(): void {
    this.#newer.hidden = this.#following;
    this.#newer.lastChild?.replaceWith(this.#unseen ? count(this.#unseen, 'new message') : 'To the newest');
  }

  #toEnd(): void {
    this.#following = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#top = this.#scroller.scrollTop;
    this.#drawNewer();
  }
}

function note({ tone, text }: NoteRow): HTMLElement {
  return el('li', `note ${tone}`, {}, el('span', '', {}, text));
}

function action(text: string, run: () => void): HTMLElement {
  const button = el('button', 'link', { type: 'button' }, text);
  button.addEventListener('click', run);
  return button;
}

/** Addresses in a text can be followed. */
function linked(text: string): (Node | string)[] {
  return text.split(/(https?:\/\/[^\s<>"]+[^\s<>".,;:!?)])/).map((part, at) => {
    const attributes = { href: part, target: '_blank', rel: 'noopener noreferrer' };
    return at % 2 === 1 ? el('a', '', attributes, part) : part;
  });
}
