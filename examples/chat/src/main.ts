/** The chat: puts its parts together. Read `session.ts` for the SDK, `room.ts` for catching up. */

import { addressOf, readRooms, roomInAddress, writeRooms } from './names.js';
import type { Room } from './room.js';
import { Session } from './session.js';
import { Composer } from './view/composer.js';
import { ConnectionView } from './view/connection.js';
import { Conversation } from './view/conversation.js';
import { avatar, byId, gathered, remembered } from './view/dom.js';
import { Login } from './view/login.js';
import { PeopleView } from './view/people.js';
import { RoomsView } from './view/rooms.js';
import { wireTheme } from './view/theme.js';

const HOME = ['lobby', 'birds', 'tea-break'];
const ROOMS = 'chat.rooms';
/** From this width on rooms and conversation are beside each other; `chat.css` has the same number. */
const WIDE = matchMedia('(min-width: 760px)');

const LEAVE = byId('leave', HTMLButtonElement);

let session: Session | undefined;
let shown: Room | undefined;

const app = byId('app', HTMLDivElement);
const login = new Login(enter);
const conversation = new Conversation(() => session);
const composer = new Composer(() => session && shown && { session, room: shown });
const connection = new ConnectionView(() => session);
const people = new PeopleView();
const rooms = new RoomsView((name) => (location.hash = addressOf(name)));
const draw = gathered(drawAll);

wireTheme();
byId('sign-out', HTMLButtonElement).addEventListener('click', leave);
LEAVE.addEventListener('click', leaveRoom);
byId('back', HTMLButtonElement).addEventListener('click', () => (location.hash = '#/'));
byId('skip', HTMLAnchorElement).addEventListener('click', (event) => {
  event.preventDefault();
  composer.focus();
});
window.addEventListener('hashchange', () => openFromAddress());
WIDE.addEventListener('change', () => openFromAddress());
document.addEventListener('visibilitychange', draw);
login.begin();

function enter(user: string): void {
  session = new Session(user, {
    connection: draw,
    room: draw,
    typing: () => session && shown && people.drawTyping(session, shown),
  });
  const known = readRooms(remembered.get(ROOMS));
  (known.length > 0 ? known : HOME).forEach((name) => session?.join(name));
  login.hide();
  app.hidden = false;
  byId('me', HTMLSpanElement).textContent = user;
  byId('my-avatar', HTMLSpanElement).replaceChildren(avatar(user));
  openFromAddress();
  draw();
}

function leave(): void {
  session?.close();
  session = shown = undefined;
  login.forget();
  app.hidden = true;
  login.show();
}

function leaveRoom(): void {
  if (session && shown) {
    session.leave(shown.name);
    shown = undefined;
    remember(session);
    location.hash = '#/';
    openFromAddress();
  }
}

/** The address names the room, so that "back" works as on any page. */
function openFromAddress(): void {
  if (!session) {
    return;
  }
  const name = roomInAddress(location.hash) ?? (WIDE.matches ? [...session.rooms.keys()][0] : undefined);
  app.dataset.view = name ? 'room' : 'rooms';
  // On a narrow screen the list is all there is on its page, where a room is the main thing otherwise.
  app.role = name ? null : 'main';
  if (!name) {
    shown = undefined;
    draw();
    return;
  }
  const room = session.join(name);
  remember(session);
  if (room !== shown) {
    composer.switched(shown?.name, name);
    shown = room;
    session.typingIn(name);
    conversation.show(room);
    composer.draw();
    composer.focus();
  }
  draw();
}

function remember({ rooms }: Session): void {
  remembered.set(ROOMS, writeRooms(rooms.keys()));
}

function drawAll(): void {
  if (!session) {
    return;
  }
  connection.draw();
  if (shown) {
    if (document.visibilityState === 'visible') {
      shown.unread = 0;
    }
    byId('room-name', HTMLHeadingElement).textContent = shown.name;
    // Somewhere one has to be.
    LEAVE.hidden = session.rooms.size < 2;
    composer.draw();
    conversation.draw();
    people.draw(session, shown);
    people.drawTyping(session, shown);
  }
  rooms.draw(session, shown?.name);
}
