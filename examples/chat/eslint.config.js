import tseslint from 'typescript-eslint';

export default tseslint.config(
  { ignores: ['dist/', '.tests/', 'node_modules/', 'build.mjs', 'eslint.config.js'] },
  ...tseslint.configs.strictTypeChecked,
  {
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/switch-exhaustiveness-check': ['error', { considerDefaultExhaustiveForUnions: true }],
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // `addEventListener('click', () => this.#toEnd())` reads well.
      '@typescript-eslint/no-confusing-void-expression': 'off',
      'max-lines': ['error', 600],
      'max-lines-per-function': ['error', { max: 100, skipComments: true }],
    },
  },
  {
    files: ['test/**'],
    rules: {
      // `node:test` gives promises that it waits for itself.
      '@typescript-eslint/no-floating-promises': 'off',
      '@typescript-eslint/no-non-null-assertion': 'off',
    },
  },
);
