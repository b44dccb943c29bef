/** What an attempt to connect or subscribe needs of the application. */

import { BobolinkError, callbackError, UnauthorizedError } from './errors.js';
import type { StreamPosition } from './wire.js';

/** The application's callbacks; those of the connection are given no channel. */
interface Callbacks {
  getToken?: (channel: string) => string | Promise<string>;
  getData?: (channel: string) => unknown;
  getState?: (channel: string) => StreamPosition | Promise<StreamPosition>;
  data?: unknown;
}

export interface Gathered {
  token: string;
  data: unknown;
  position?: StreamPosition;
}

export interface Wanted {
  /** The token to use; without one it is asked for. */
  token: string | undefined;
  state?: boolean;
  channel?: string;
}

/** Calls `done` once: at once where nothing has to be asked for, and with an error of this code if a callback fails. */
export function gather(
  { getToken, getData, getState, data }: Callbacks,
  { token, state, channel = '' }: Wanted,
  code: number,
  done: (gathered: Gathered | BobolinkError) => void,
): void {
  if (token !== undefined && !state && !getData) {
    done({ token, data });
    return;
  }
  const ask = async (): Promise<Gathered> => {
    const used = token ?? (await getToken?.(channel));
    if (!used && token === undefined) {
      throw new UnauthorizedError();
    }
    const position = state ? await getState?.(channel) : undefined;
    return { token: used ?? '', data: getData ? await getData(channel) : data, position };
  };
  ask().then(done, (cause: unknown) => done(callbackError(code, cause)));
}
