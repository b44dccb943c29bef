// Reading and showing JSON: errors with a place, and colours without markup in strings.

const TOKENS = /("(?:\\.|[^"\\])*")(\s*:)?|\b(true|false|null)\b|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)/g;
const STRING = String.raw`"(?:[^"\\\u0000-\u001f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"`;
const NUMBER = String.raw`-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?`;

/** Parses an editor's text: `{ value }` when it is JSON, else `{ error }` saying where and why. */
export function parse(text) {
  if (text.trim() === '') return { error: 'Write some JSON: an object, a list, a string, a number' };
  try {
    return { value: JSON.parse(text) };
  } catch {
    return { error: explain(text) };
  }
}

/** One coloured fragment for a JSON value. */
export function render(value, { pretty = false } = {}) {
  return colour(pretty ? JSON.stringify(value, null, 2) : JSON.stringify(value) ?? '');
}

// Browsers differ in whether they tell the place of a mistake, so it is looked for here.
function explain(text) {
  const at = stray(text);
  const before = text.slice(0, at).split('\n');
  const place = `Line ${before.length}, column ${before.at(-1).length + 1}`;
  if (text[at] === '"' && !new RegExp(`^${STRING}`).test(text.slice(at))) return `${place}: a string without an end, or with a character that needs a backslash`;
  if (at >= text.trimEnd().length) return `${place}: the JSON ends too early`;
  return `${place}: ${JSON.stringify(text[at])} is not expected here`;
}

/** The index of the first character that cannot stand in JSON where it stands. */
function stray(text) {
  let at = 0;
  const take = (pattern) => {
    const found = new RegExp(pattern, 'y');
    found.lastIndex = at;
    if (!found.test(text)) return false;
    at = found.lastIndex;
    take.space.lastIndex = at;
    if (take.space.test(text)) at = take.space.lastIndex;
    return true;
  };
  take.space = /\s*/y;
  const list = (end, item) => {
    if (take(end)) return true;
    while (item()) {
      if (take(end)) return true;
      if (!take(',')) return false;
    }
    return false;
  };
  const value = () => {
    if (take('\\{')) return list('\\}', () => take(STRING) && take(':') && value());
    if (take('\\[')) return list('\\]', value);
    return take(STRING) || take(NUMBER) || take('true|false|null');
  };
  take('');
  value();
  return at;
}

/** One coloured fragment for JSON text as it stands. */
export function colour(text) {
  const out = document.createDocumentFragment();
  let end = 0;
  for (const match of text.matchAll(TOKENS)) {
    out.append(...breakable(text.slice(end, match.index)));
    const [whole, string, colon] = match;
    const kind = colon !== undefined ? 'key' : string !== undefined ? 'string' : match[3] ? 'word' : 'number';
    const token = document.createElement('span');
    token.className = `json-${kind}`;
    token.textContent = colon === undefined ? whole : string;
    out.append(token, colon ?? '');
    end = match.index + whole.length;
  }
  out.append(text.slice(end));
  return out;
}

// One long line of compact JSON may break after its commas.
function breakable(text) {
  const parts = text.split(/(?<=,)/);
  return parts.flatMap((part) => (part.endsWith(',') ? [part, document.createElement('wbr')] : [part]));
}
