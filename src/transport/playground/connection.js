// The playground's connection: a client of the SDK, whose cable can be pulled. Everything that happens
// is reported through `emit`, as one of
//   { type: 'state', state, detail }         the connection's state changed; `detail` says why
//   { type: 'frame', way, message, text }    one command sent ('out') or reply received ('in')
//   { type: 'subscription', sub }            a channel's state changed
//   { type: 'recovery', sub, recovered, publications }  it is back after an absence
//   { type: 'publication', channel, publication }
//   { type: 'join' | 'leave', channel, info }
//   { type: 'unsubscribed', channel, code, reason }
//   { type: 'message', data }
//   { type: 'trouble', text }                something failed and is tried again

import { Client, webSocketTransport } from './bobolink.js';
import { watched } from './wire.js';

/** What is asked for; the namespace may force or refuse each. */
const WISHES = { positioned: true, recoverable: true, joinLeave: true };

export class Connection {
  #client = null;
  #pulled = false;
  #tellNetwork = () => {};
  #welcome = {};

  /** `token` is an async function giving a connection token; a transport of one's own may stand for WebSocket. */
  constructor({ url, token, emit }) {
    this.url = url;
    this.token = token;
    this.emit = emit;
    this.state = 'offline';
    this.subs = new Map();
  }

  /** Names this connection for the server; empty while there is none. */
  get id() {
    return this.#client?.state.name === 'connected' ? this.#client.state.client : '';
  }

  /** Connects, or connects again at once where the SDK would wait. */
  connect() {
    if (this.state !== 'offline') {
      this.#pulled = false;
      this.#tellNetwork('online');
      return;
    }
    this.#client = this.#newClient();
    for (const sub of this.subs.values()) this.#attach(sub);
    this.#client.connect();
  }

  /** Ends the session: positions are forgotten, so the next connect starts afresh. */
  disconnect() {
    this.#end();
    this.#become('offline');
  }

  /** Loses the connection as a bad network would: positions stay, and it is up to `connect` to return. */
  drop() {
    this.#pulled = true;
    this.#tellNetwork('offline');
  }

  subscribe(channel) {
    const sub = this.#newSub(channel);
    this.emit({ type: 'subscription', sub });
    if (this.#client) this.#attach(sub);
  }

  /** Where the server subscribed this tab, it is asked to end it; a token or the server's API may make it again. */
  async unsubscribe(channel) {
    const sub = this.subs.get(channel);
    if (!sub) return;
    const client = sub.byServer ? this.#connected() : this.#client;
    this.#forget(sub);
    if (sub.byServer) await client.unsubscribe(channel);
    else client?.find(channel)?.close();
  }

  publish(channel, data) {
    return this.#connected().publish(channel, data);
  }

  history(channel, options) {
    return this.#connected().history(channel, options);
  }

  presence(channel) {
    return this.#connected().presence(channel);
  }

  presenceStats(channel) {
    return this.#connected().presenceStats(channel);
  }

  #connected() {
    if (this.state !== 'online') throw new Error('not connected');
    return this.#client;
  }

  #newClient() {
    const client = new Client(this.url, {
      name: 'playground',
      getToken: this.token,
      transport: watched(webSocketTransport(), (way, text) => this.#saw(way, text)),
      network: (listener) => this.#network(listener),
      maxReconnectDelay: 15_000,
    });
    const on = (name, heard) => client.on(name, heard);
    on('state', (state) => this.#changed(state));
    on('error', (error) => this.emit({ type: 'trouble', text: inWords(error) }));
    on('message', (data) => this.emit({ type: 'message', data }));
    // From here on: channels that the server subscribes this connection to.
    on('subscribed', (state) => {
      const sub = this.subs.get(state.channel) ?? this.#newSub(state.channel);
      sub.byServer = true;
      this.#subscribed(sub, state);
    });
    on('subscribing', ({ channel }) => this.#moved(this.subs.get(channel), 'subscribing'));
    on('unsubscribed', (event) => this.#endedByServer(this.subs.get(event.channel), event));
    on('publication', (publication) => this.#published(this.subs.get(publication.channel), publication));
    on('join', ({ channel, info }) => this.emit({ type: 'join', channel, info }));
    on('leave', ({ channel, info }) => this.emit({ type: 'leave', channel, info }));
    return client;
  }

  /** What the SDK hears of the network: the page's own events, or none while the cable is pulled. */
  #network(listener) {
    const hear = (target, name, heard) => {
      const unlessPulled = () => { if (!this.#pulled) heard(); };
      target.addEventListener(name, unlessPulled);
      return () => target.removeEventListener(name, unlessPulled);
    };
    this.#tellNetwork = listener;
    const undo = [
      hear(window, 'online', () => listener('online')),
      hear(window, 'offline', () => listener('offline')),
      hear(document, 'visibilitychange', () => { if (document.visibilityState === 'visible') listener('visible'); }),
    ];
    return () => undo.forEach((run) => run());
  }

  #attach(sub) {
    const { channel } = sub;
    const subscription = this.#client.subscription(channel, WISHES);
    subscription.on('subscribing', ({ code, reason }) => {
      // From 2500 on the server ended it, and the SDK subscribes again.
      if (code >= 2500) this.emit({ type: 'unsubscribed', channel, code, reason });
      this.#moved(sub, 'subscribing');
    });
    subscription.on('subscribed', (state) => this.#subscribed(sub, state));
    subscription.on('unsubscribed', (state) => {
      if (!state.error) return this.#endedByServer(sub, { channel, ...state });
      sub.error = inWords(state.error);
      this.#moved(sub, 'refused');
    });
    subscription.on('publication', (publication) => this.#published(sub, publication));
    subscription.on('join', (info) => this.emit({ type: 'join', channel, info }));
    subscription.on('leave', (info) => this.emit({ type: 'leave', channel, info }));
    subscription.on('error', (error) => this.emit({ type: 'trouble', text: `${channel}: ${inWords(error)}` }));
    subscription.subscribe();
  }

  #subscribed(sub, { wasRecovering, recovered, recoverable, position }) {
    Object.assign(sub, { error: '', recoverable, epoch: position?.epoch ?? '', offset: position?.offset ?? 0 });
    this.#moved(sub, 'subscribed');
    if (!wasRecovering) return;
    // What was missed follows at once; when that is through, it can be shown as one.
    const missed = recovered ? [] : null;
    sub.missed = missed;
    queueMicrotask(() => {
      sub.missed = null;
      this.emit({ type: 'recovery', sub, recovered, publications: missed ?? [] });
    });
  }

  #published(sub, publication) {
    if (!sub) return;
    if (publication.offset) sub.offset = publication.offset;
    if (sub.missed) sub.missed.push(publication);
    else this.emit({ type: 'publication', channel: sub.channel, publication });
  }

  #endedByServer(sub, { code, reason }) {
    if (!sub || !this.subs.has(sub.channel)) return;
    this.emit({ type: 'unsubscribed', channel: sub.channel, code, reason });
    this.#forget(sub);
    this.#client?.find(sub.channel)?.close();
  }

  #forget(sub) {
    this.subs.delete(sub.channel);
    this.emit({ type: 'subscription', sub: { ...sub, state: 'gone' } });
  }

  #moved(sub, state) {
    if (!sub || this.subs.get(sub.channel) !== sub) return;
    sub.state = state;
    this.emit({ type: 'subscription', sub });
  }

  #newSub(channel) {
    const sub = { channel, state: 'subscribing', epoch: '', offset: 0, recoverable: false, error: '', byServer: false, missed: null };
    this.subs.set(channel, sub);
    return sub;
  }

  #changed(state) {
    switch (state.name) {
      case 'connected':
        return this.#become('online', this.#welcome);
      case 'connecting':
        if (this.#pulled) return this.#become('dropped');
        return state.code === 0 ? this.#become('connecting') : this.#become('waiting', words(state));
      case 'disconnected':
        this.#end();
        return this.#become('offline', state.error ? inWords(state.error) : words(state));
      default:
        return undefined;
    }
  }

  #end() {
    const client = this.#client;
    this.#client = null;
    this.#pulled = false;
    this.#tellNetwork = () => {};
    client?.close();
    for (const sub of [...this.subs.values()]) {
      if (sub.byServer) this.#forget(sub);
      else Object.assign(sub, { state: 'subscribing', epoch: '', offset: 0 });
    }
  }

  #become(state, detail = '') {
    this.state = state;
    this.emit({ type: 'state', state, detail });
  }

  #saw(way, text) {
    const message = JSON.parse(text);
    if (way === 'in' && message.connect) this.#welcome = message.connect;
    this.emit({ type: 'frame', way, message, text });
  }
}

const words = ({ code, reason }) => (code < 2000 ? reason : `closed by the server: ${code} ${reason}`);

/** Codes from 100 on are the server's, and documented; those below say less than their words. */
const inWords = ({ code, message, cause }) => `${code >= 100 ? `${code} ` : ''}${message}${cause instanceof Error ? `: ${cause.message}` : ''}`;
