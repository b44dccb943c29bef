/** Waiting until a check holds, where there is no event to wait for. */

import { vi } from 'vitest';

import { PATIENCE } from './seen.js';

/** Resolves once the check does not throw; with its error, if it throws for too long. */
export function soon(check: () => void): Promise<void> {
  return vi.waitFor(check, { timeout: PATIENCE });
}
