/** The few things every part of the page does. Text enters as text nodes, so nothing becomes markup. */

/** The element with this id, which `index.html` has. */
export function byId<E extends HTMLElement>(id: string, type: new () => E): E {
  const element = document.getElementById(id);
  if (!(element instanceof type)) {
    throw new Error(`the page has no ${type.name} #${id}`);
  }
  return element;
}

/** Makes an element with classes, attributes and children. */
export function el<Name extends keyof HTMLElementTagNameMap>(
  name: Name,
  className = '',
  attributes: Record<string, string> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[Name] {
  const element = document.createElement(name);
  element.className = className;
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  element.append(...children);
  return element;
}

/** One of the symbols of `index.html`. */
export function icon(name: string): SVGElement {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  use.setAttribute('href', `#icon-${name}`);
  svg.append(use);
  return svg;
}

/** A person's picture: their first letter on one of eight colours. */
export function avatar(user: string): HTMLElement {
  const letter = Array.from(user || '·')[0]?.toUpperCase() ?? '·';
  const hash = Array.from(user).reduce((sum, char) => Math.imul(sum ^ (char.codePointAt(0) ?? 0), 0x01000193), 0x811c9dc5);
  // Names that differ little get colours that differ: the last letters reach the high bits only by this.
  const hue = Math.imul(hash ^ (hash >>> 15), 0x85ebca6b) >>> 29;
  return el('span', 'avatar', { 'aria-hidden': 'true', 'data-hue': String(user ? hue : 'none') }, letter);
}

/** What an element was drawn from. */
const prints = new WeakMap<Element, string>();

/**
 * Makes the children of a list be these items, each drawn once and again only when it changed. What
 * stays the same stays in place, so that a screen reader tells of what is new alone.
 */
export function keyed<T extends { readonly key: string }>(list: HTMLElement, items: readonly T[], draw: (item: T) => HTMLElement): void {
  const known = new Map([...list.children].map((child) => [(child as HTMLElement).dataset.key, child as HTMLElement]));
  let place = list.firstElementChild;
  for (const item of items) {
    const print = JSON.stringify(item);
    let element = known.get(item.key);
    known.delete(item.key);
    if (!element || prints.get(element) !== print) {
      const fresh = draw(item);
      fresh.dataset.key = item.key;
      prints.set(fresh, print);
      if (element && element === place) {
        place = fresh;
      }
      element?.replaceWith(fresh);
      element = fresh;
    }
    if (element === place) {
      place = place.nextElementSibling;
    } else {
      list.insertBefore(element, place);
    }
  }
  known.forEach((gone) => gone.remove());
}

/** Runs once for however many calls there were before the browser draws. */
export function gathered(run: () => void): () => void {
  let waiting = false;
  return () => {
    if (!waiting) {
      waiting = true;
      setTimeout(() => {
        waiting = false;
        run();
      }, 0);
    }
  };
}

/** What this browser remembers; private windows may not let it. */
export const remembered = {
  get(key: string): string | undefined {
    try {
      return localStorage.getItem(`bobolink.${key}`) ?? undefined;
    } catch {
      return undefined;
    }
  },
  set(key: string, value: string | undefined): void {
    try {
      if (value === undefined) {
        localStorage.removeItem(`bobolink.${key}`);
      } else {
        localStorage.setItem(`bobolink.${key}`, value);
      }
    } catch {
      // Then it is asked again the next time.
    }
  },
};
