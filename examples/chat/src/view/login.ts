/** Coming in with a name. */

import { byId, remembered } from './dom.js';

const KEY = 'chat.user';

export class Login {
  readonly #screen = byId('login', HTMLElement);
  readonly #form = byId('login-form', HTMLFormElement);
  readonly #name = byId('login-name', HTMLInputElement);

  constructor(readonly enter: (user: string) => void) {
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      const user = this.#name.value.trim();
      if (user) {
        remembered.set(KEY, user);
        enter(user);
      }
    });
  }

  /** Comes in as the one of the last time, if there was one. */
  begin(): void {
    const user = remembered.get(KEY);
    if (user) {
      this.enter(user);
    } else {
      this.show();
    }
  }

  show(): void {
    this.#screen.hidden = false;
    this.#name.focus();
  }

  hide(): void {
    this.#screen.hidden = true;
  }

  forget(): void {
    remembered.set(KEY, undefined);
  }
}
