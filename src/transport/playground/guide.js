// The strip of first steps: each one can be pressed to do it, and ticks itself when it happened.

import { byId, el, remembered } from './dom.js';

const STEPS = [
  { name: 'connect', title: 'Connect', hint: 'Token, then WebSocket' },
  { name: 'subscribe', title: 'Subscribe', hint: 'Hear what dev:lobby says' },
  { name: 'publish', title: 'Publish', hint: 'Send JSON to everyone in it' },
  { name: 'second', title: 'Open a second tab', hint: 'It joins as somebody else' },
  { name: 'recover', title: 'Drop and recover', hint: 'Miss some, get all back' },
];

export class Guide {
  #done = new Set();
  #buttons = new Map();

  /** `actions` has a function for each step's name. */
  constructor(actions) {
    const guide = byId('guide');
    guide.hidden = remembered.get('guide') === 'hidden';
    byId('guide-hide').addEventListener('click', () => {
      remembered.set('guide', 'hidden');
      guide.hidden = true;
    });
    byId('guide-steps').replaceChildren(...STEPS.map((step, index) => {
      const button = el('button', { className: 'step', type: 'button', id: `step-${step.name}` },
        el('span', { className: 'step-number', 'aria-hidden': 'true' }, String(index + 1)),
        el('span', { className: 'step-title' }, step.title, el('span', { className: 'unseen' })),
        el('span', { className: 'step-hint' }, step.hint));
      button.addEventListener('click', actions[step.name]);
      this.#buttons.set(step.name, button);
      return el('li', {}, button);
    }));
    this.#draw();
  }

  done(name) {
    if (this.#done.has(name)) return;
    this.#done.add(name);
    this.#draw();
  }

  #draw() {
    const next = STEPS.find((step) => !this.#done.has(step.name));
    for (const { name } of STEPS) {
      const button = this.#buttons.get(name);
      const state = this.#done.has(name) ? 'done' : name === next?.name ? 'next' : 'later';
      button.dataset.state = state;
      button.querySelector('.unseen').textContent = state === 'done' ? ' (done)' : '';
      if (state === 'next') button.setAttribute('aria-current', 'step');
      else button.removeAttribute('aria-current');
      if (state === 'next') bringIntoView(button.parentElement);
    }
  }
}

// On a narrow screen the strip is wider than the window. The page itself must not move.
function bringIntoView(item) {
  const strip = item.parentElement;
  strip.scrollLeft = item.offsetLeft - strip.firstElementChild.offsetLeft;
}
