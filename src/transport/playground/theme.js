// Light or dark: the system's choice until the reader makes one.

import { byId, remembered } from './dom.js';

export function wireTheme() {
  const root = document.documentElement;
  const chosen = remembered.get('theme');
  if (chosen === 'light' || chosen === 'dark') root.dataset.theme = chosen;
  byId('theme').addEventListener('click', () => {
    const now = root.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
    root.dataset.theme = now === 'dark' ? 'light' : 'dark';
    remembered.set('theme', root.dataset.theme);
  });
}
