// Tokens as an application backend would make them.

import { createHmac } from 'node:crypto';

import { TOKEN_SECRET } from './gateway.mjs';

/** A connection token of `user`; `ttl` in seconds, none means that it does not expire. */
export function connectionToken(user, { ttl, secret, ...claims } = {}) {
  return sign({ sub: user, ...expiration(ttl), ...claims }, secret);
}

/** A token that lets `user` subscribe to `channel`. */
export function subscriptionToken(user, channel, { ttl, secret, ...claims } = {}) {
  return sign({ sub: user, channel, ...expiration(ttl), ...claims }, secret);
}

function expiration(ttl) {
  return ttl === undefined ? {} : { exp: Math.floor(Date.now() / 1000) + ttl };
}

function sign(claims, secret = TOKEN_SECRET) {
  const signed = `${part({ alg: 'HS256', typ: 'JWT' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

function part(value) {
  return Buffer.from(JSON.stringify(value)).toString('base64url');
}
