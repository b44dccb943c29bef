/** Light or dark: the system's choice until the reader makes one. The playground shares it. */

import { remembered } from './dom.js';

const KEY = 'theme';

export function wireTheme(): void {
  const root = document.documentElement;
  const chosen = remembered.get(KEY);
  if (chosen === 'light' || chosen === 'dark') {
    root.dataset.theme = chosen;
  }
  for (const button of document.querySelectorAll('[data-action=theme]')) {
    button.addEventListener('click', () => {
      const system = matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light';
      root.dataset.theme = (root.dataset.theme ?? system) === 'dark' ? 'light' : 'dark';
      remembered.set(KEY, root.dataset.theme);
    });
  }
}
