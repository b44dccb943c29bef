/** What the channels of the chat carry. */

import { encodeName } from './names.js';

export interface Message {
  /** Made by the sender, so that a message that is sent twice is shown once. */
  readonly id: string;
  readonly text: string;
  /** When it was written, by the sender's clock; 0 if that is not known. */
  readonly at: number;
}

export interface Typing {
  readonly typing: boolean;
}

/** Which channel carries what: the client checks our calls against it. */
export interface Channels {
  [room: `dev-chat:${string}`]: Message;
  [room: `dev-typing:${string}`]: Typing;
}

export const MAX_TEXT = 2_000;

export const roomChannel = (room: string): `dev-chat:${string}` => `dev-chat:${encodeName(room)}`;
export const typingChannel = (room: string): `dev-typing:${string}` => `dev-typing:${encodeName(room)}`;

export function newMessage(text: string): Message {
  return { id: crypto.randomUUID(), text, at: Date.now() };
}

/**
 * The channel's schema. Whatever has no text is shown as it is: a backend may publish here as well, and
 * what it says should not vanish.
 */
export function readMessage(data: unknown): Message {
  const { id, text, at } = isRecord(data) ? data : {};
  return {
    id: typeof id === 'string' ? id : '',
    text: typeof text === 'string' ? text : JSON.stringify(data),
    at: typeof at === 'number' && Number.isFinite(at) ? at : 0,
  };
}

export function readTyping(data: unknown): Typing {
  return { typing: isRecord(data) && data.typing === true };
}

function isRecord(data: unknown): data is Record<string, unknown> {
  return typeof data === 'object' && data !== null;
}
