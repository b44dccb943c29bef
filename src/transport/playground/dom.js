// Small things every panel does with the page. Text always enters through text nodes, so nothing
// a message carries can become markup.

export const byId = (id) => {
  const node = document.getElementById(id);
  if (!node) throw new Error(`the page has no element #${id}`);
  return node;
};

/**
 * Makes an element. `props` sets properties (`className`, `title`), `dataset` entries and, for
 * names with a dash or `role`, attributes; children are nodes or strings.
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name === 'dataset') Object.assign(node.dataset, value);
    else if (name.includes('-') || name === 'role') node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children);
  return node;
}

/** Appends to a list that keeps at most `limit` children, the oldest going first; `scroller` shows a part of it. */
export function appendBounded(list, node, limit, scroller = list) {
  const atEnd = scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 48;
  list.append(node);
  while (list.childElementCount > limit) list.firstElementChild.remove();
  // A reader who scrolled up is reading: only follow the end when it was in sight.
  if (atEnd) scroller.scrollTop = scroller.scrollHeight;
}

/** Copies text and lets the button say so for a moment. */
export async function copy(text, button) {
  const before = button.textContent;
  let said = 'Copied';
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Pages on plain http other than localhost have no clipboard.
    said = 'Not allowed';
  }
  button.textContent = said;
  setTimeout(() => { button.textContent = before; }, 1200);
}

/** Local wall time to the millisecond, as `14:03:07.512`. */
export function clock(date) {
  const two = (n) => String(n).padStart(2, '0');
  const ms = String(date.getMilliseconds()).padStart(3, '0');
  return `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}.${ms}`;
}

/** `1 message`, `2 messages`. */
export const count = (n, noun) => `${n} ${noun}${n === 1 ? '' : 's'}`;

/** A setting kept in this browser; private windows may refuse storage, and then it is forgotten. */
export const remembered = {
  get(key) {
    try { return localStorage.getItem(`bobolink.${key}`); } catch { return null; }
  },
  set(key, value) {
    try { localStorage.setItem(`bobolink.${key}`, value); } catch { /* forgotten */ }
  },
};
