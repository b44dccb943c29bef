/** Who is in a room: users, each with as many connections as they have tabs and devices. */

import type { ClientInfo } from '@bobolink/client';

export interface Person {
  readonly user: string;
  readonly connections: number;
}

export class People {
  #users = new Map<string, string>();

  /** What the server knows wins over what was heard of joins and leaves. */
  replace(present: Readonly<Record<string, ClientInfo>>): void {
    this.#users = new Map(Object.values(present).map(({ client, user }) => [client, user]));
  }

  joined({ client, user }: ClientInfo): void {
    this.#users.set(client, user);
  }

  left({ client }: ClientInfo): void {
    this.#users.delete(client);
  }

  /** By name, `me` first. */
  list(me: string): readonly Person[] {
    const counts = new Map<string, number>();
    this.#users.forEach((user) => counts.set(user, (counts.get(user) ?? 0) + 1));
    return [...counts]
      .map(([user, connections]) => ({ user, connections }))
      .sort((a, b) => Number(b.user === me) - Number(a.user === me) || a.user.localeCompare(b.user));
  }
}
