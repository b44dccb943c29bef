/** What a conversation looks like, as a list: days, bubbles, and the truth about what is missing. */

import type { Outgoing } from './outgoing.js';
import type { Entry, Timeline } from './timeline.js';

export type Row = NoteRow | MessageRow;

export interface NoteRow {
  readonly kind: 'note';
  readonly key: string;
  readonly tone: 'day' | 'missed' | 'loss';
  readonly text: string;
}

export interface MessageRow {
  readonly kind: 'message';
  readonly key: string;
  readonly id: string;
  readonly offset: number | undefined;
  readonly author: string;
  readonly own: boolean;
  readonly text: string;
  readonly at: number;
  /** Whether it begins or ends a run of messages of one person. */
  readonly first: boolean;
  readonly last: boolean;
  /** Where it is; `kept` is in the stream for all to read. */
  readonly state: 'kept' | Outgoing['state'];
  readonly reason?: string;
}

type Bare = Omit<MessageRow, 'first' | 'last'>;

/** Milliseconds between two messages of one person that still belong together. */
const TOGETHER = 5 * 60_000;

const plural = new Intl.PluralRules('en');

export function rows(timeline: Timeline, outgoing: readonly Outgoing[], me: string): Row[] {
  const list: (NoteRow | Bare)[] = [];
  let before: Entry | undefined;
  let day = '';
  const dayOf = (key: string, at: number): void => {
    const text = at > 0 ? dayText(at) : day;
    if (text !== day) {
      list.push({ kind: 'note', key: `day ${key}`, tone: 'day', text });
      day = text;
    }
  };
  for (const entry of timeline.entries) {
    dayOf(entry.key, entry.message.at);
    if (before) {
      list.push(...between(timeline, before, entry));
    }
    list.push(kept(entry, me));
    before = entry;
  }
  for (const { message, state, reason } of outgoing.filter(({ message }) => !timeline.has(message.id))) {
    dayOf(message.id, message.at);
    list.push({ kind: 'message', key: message.id, offset: undefined, author: me, own: true, state, reason, ...message });
  }
  return list.map((row, at) => (row.kind === 'note' ? row : grouped(row, list[at - 1], list[at + 1])));
}

/** `one message`, `3 messages`. */
export function count(n: number, noun: string): string {
  return plural.select(n) === 'one' ? `one ${noun}` : `${n} ${noun}s`;
}

/** What has to be said between two messages. */
function between(timeline: Timeline, before: Entry, after: Entry): NoteRow[] {
  const note = (tone: NoteRow['tone'], text: string): NoteRow => ({ kind: 'note', key: `${tone} ${after.key}`, tone, text });
  if (before.epoch !== after.epoch) {
    return [note('loss', 'The server began anew here. What is above it may not have any more.')];
  }
  const gap = timeline.gap(before, after);
  return [
    ...(gap > 0 ? [note('loss', `${count(gap, 'message')} missing here: the server does not keep them any more`)] : []),
    ...(timeline.beginsMissed(before, after) ? [note('missed', 'While you were away')] : []),
  ];
}

function kept({ key, author, offset, message }: Entry, me: string): Bare {
  return { kind: 'message', key, offset, author, own: author === me, state: 'kept', ...message };
}

function grouped(row: Bare, before: NoteRow | Bare | undefined, after: NoteRow | Bare | undefined): MessageRow {
  const together = (other: NoteRow | Bare | undefined): boolean =>
    other?.kind === 'message' && other.author === row.author && Math.abs(other.at - row.at) < TOGETHER;
  return { ...row, first: !together(before), last: !together(after) };
}

function dayText(at: number): string {
  const [then, today] = [new Date(at), new Date()];
  const yesterday = new Date(today.getFullYear(), today.getMonth(), today.getDate() - 1);
  const is = (day: Date): boolean => then.toDateString() === day.toDateString();
  const full = { weekday: 'long', day: 'numeric', month: 'long' } as const;
  return is(today) ? 'Today' : is(yesterday) ? 'Yesterday' : then.toLocaleDateString('en', full);
}
