// The client protocol in its JSON form, small enough to read: one class, one WebSocket, no library.
// Everything that happens is reported through `emit`, as one of
//   { type: 'state', state, detail }         the connection's state changed
//   { type: 'frame', way, message, text }    one command sent ('out') or reply received ('in')
//   { type: 'subscription', sub }            a channel's state changed
//   { type: 'recovery', sub, recovered, publications }  an answer to a subscribe with recover
//   { type: 'publication', channel, publication }
//   { type: 'join' | 'leave', channel, info }
//   { type: 'unsubscribed', channel, code, reason }
//   { type: 'message', data }

const ANSWER_WITHIN_MS = 8000;
// How much later than its interval a ping may come before the connection counts as dead.
const PING_GRACE_MS = 10000;
const BACKOFF_MS = { first: 300, most: 15000 };
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** A command was answered with an error. */
export class Refusal extends Error {
  constructor({ code, message }) {
    super(`${code} ${message}`);
    this.code = code;
  }
}

export class Client {
  #socket = null;
  #lastId = 0;
  #waiting = new Map();
  #timers = { ping: 0, retry: 0, refresh: 0 };
  #attempt = 0;
  #ping = { interval: 0, pong: false };

  /** `token` is an async function giving a connection token. */
  constructor({ url, token, emit }) {
    this.url = url;
    this.token = token;
    this.emit = emit;
    this.state = 'offline';
    this.id = '';
    this.subs = new Map();
  }

  /** Opens the connection, and again subscribes to every channel that was wanted. */
  async connect() {
    clearTimeout(this.#timers.retry);
    this.#become('connecting');
    let token;
    try {
      token = await this.token();
    } catch (error) {
      if (this.state !== 'connecting') return;
      // On the way back from a loss the server may be away for a while.
      if (this.#attempt > 0) this.#retry(error.message);
      else this.#become('offline', error.message);
      return;
    }
    if (this.state !== 'connecting') return;
    const socket = new WebSocket(this.url);
    this.#socket = socket;
    const current = (handler) => (event) => { if (this.#socket === socket) handler(event); };
    socket.onopen = current(() => this.#greet(token));
    socket.onmessage = current((event) => this.#receive(event.data));
    socket.onclose = current((event) => this.#closed(event.code, event.reason));
  }

  /** Ends the session: positions are forgotten, so the next connect starts afresh. */
  disconnect() {
    this.#forgetSocket(1000);
    for (const sub of this.subs.values()) Object.assign(sub, { epoch: '', offset: 0 });
    this.#become('offline');
  }

  /** Loses the connection as a bad network would: positions stay, nothing reconnects by itself. */
  drop() {
    this.#forgetSocket(4000);
    this.#become('dropped');
  }

  subscribe(channel) {
    const sub = this.#newSub(channel);
    this.emit({ type: 'subscription', sub });
    if (this.state === 'online') this.#send(...this.#subscribeCommand(sub));
  }

  async unsubscribe(channel) {
    const sub = this.subs.get(channel);
    this.subs.delete(channel);
    if (sub) this.emit({ type: 'subscription', sub: { ...sub, state: 'gone' } });
    if (this.state === 'online') await this.request('unsubscribe', { channel });
  }

  /** Sends one command and gives its result; rejects with a `Refusal` when the server says no. */
  request(method, params) {
    return new Promise((resolve, reject) => {
      if (this.state !== 'online') return reject(new Error('not connected'));
      this.#send(method, params, resolve, reject);
    });
  }

  #greet(token) {
    const wanted = [...this.subs.values()].map((sub) => this.#subscribeCommand(sub));
    const greeting = ['connect', { token, name: 'playground' },
      (result) => this.#welcomed(result),
      (error) => this.#refusedConnect(error)];
    // As the SDKs do: connect and all subscribes travel in one frame, without a round trip between.
    this.#sendTogether([greeting, ...wanted]);
  }

  #welcomed(result) {
    this.id = result.client ?? '';
    this.#attempt = 0;
    this.#ping = { interval: (result.ping ?? 0) * 1000, pong: result.pong === true };
    this.#expectPing();
    if (result.expires) this.#refreshIn(result.ttl);
    this.#become('online', result);
    for (const [channel, answer] of Object.entries(result.subs ?? {})) {
      this.#subscribed(this.#newSub(channel), answer);
    }
  }

  #refusedConnect(error) {
    // Error 109 is an expired token: the next attempt fetches a new one.
    const again = error.code === 109 || error.temporary === true;
    this.#forgetSocket(1000);
    if (again) this.#retry(`connect refused: ${error.message}`);
    else this.#become('offline', `connect refused: ${error.message}`);
  }

  #subscribeCommand(sub) {
    sub.state = 'subscribing';
    const params = { channel: sub.channel, positioned: true, recoverable: true, join_leave: true };
    if (sub.epoch) Object.assign(params, { recover: true, epoch: sub.epoch, offset: sub.offset });
    return ['subscribe', params,
      (result) => this.#subscribed(sub, result),
      (error) => {
        sub.state = 'refused';
        sub.error = error.message;
        this.emit({ type: 'subscription', sub });
      }];
  }

  #subscribed(sub, result) {
    const publications = result.publications ?? [];
    sub.state = 'subscribed';
    sub.error = '';
    sub.recoverable = result.recoverable === true;
    sub.epoch = result.epoch ?? '';
    sub.offset = publications.at(-1)?.offset ?? result.offset ?? 0;
    this.emit({ type: 'subscription', sub });
    if (result.was_recovering) this.emit({ type: 'recovery', sub, recovered: result.recovered === true, publications });
    else for (const publication of publications) this.emit({ type: 'publication', channel: sub.channel, publication });
  }

  #send(method, params, resolve, reject) {
    this.#sendTogether([[method, params, resolve, reject]]);
  }

  #sendTogether(requests) {
    const commands = requests.map(([method, params, resolve, reject]) => {
      const id = ++this.#lastId;
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject?.(new Error(`no answer to ${method} within ${ANSWER_WITHIN_MS / 1000} s`));
      }, ANSWER_WITHIN_MS);
      this.#waiting.set(id, { method, resolve, reject, timer });
      return { id, [method]: params };
    });
    const lines = commands.map((command) => JSON.stringify(command));
    commands.forEach((message, at) => this.emit({ type: 'frame', way: 'out', message, text: lines[at] }));
    this.#socket.send(lines.join('\n'));
  }

  #receive(frame) {
    this.#expectPing();
    for (const line of frame.split('\n')) {
      if (line === '') continue;
      const message = JSON.parse(line);
      this.emit({ type: 'frame', way: 'in', message, text: line });
      if (message.id) this.#answered(message);
      else if (message.push) this.#pushed(message.push);
      else if (this.#ping.pong) this.#pong();
    }
  }

  #pong() {
    this.emit({ type: 'frame', way: 'out', message: {}, text: '{}' });
    this.#socket.send('{}');
  }

  #answered(reply) {
    const request = this.#waiting.get(reply.id);
    if (!request) return;
    this.#waiting.delete(reply.id);
    clearTimeout(request.timer);
    if (reply.error) request.reject?.(new Refusal(reply.error));
    else request.resolve?.(reply[request.method] ?? {});
  }

  #pushed(push) {
    const { channel = '' } = push;
    const sub = this.subs.get(channel);
    if (push.pub) {
      if (sub && push.pub.offset) sub.offset = push.pub.offset;
      if (sub && push.pub.epoch) sub.epoch = push.pub.epoch;
      this.emit({ type: 'publication', channel, publication: push.pub });
    }
    else if (push.join) this.emit({ type: 'join', channel, info: push.join.info ?? {} });
    else if (push.leave) this.emit({ type: 'leave', channel, info: push.leave.info ?? {} });
    else if (push.subscribe) this.#subscribed(this.#newSub(channel), push.subscribe);
    else if (push.unsubscribe) this.#unsubscribedByServer(channel, push.unsubscribe);
    else if (push.message) this.emit({ type: 'message', data: push.message.data });
  }

  #newSub(channel) {
    const sub = { channel, state: 'subscribing', epoch: '', offset: 0, recoverable: false, error: '' };
    this.subs.set(channel, sub);
    return sub;
  }

  #unsubscribedByServer(channel, { code = 0, reason = '' }) {
    this.emit({ type: 'unsubscribed', channel, code, reason });
    const sub = this.subs.get(channel);
    if (!sub) return;
    // Codes from 2500 ask the client to subscribe again, from where it was.
    if (code >= 2500) return this.#send(...this.#subscribeCommand(sub));
    this.subs.delete(channel);
    this.emit({ type: 'subscription', sub: { ...sub, state: 'gone' } });
  }

  #closed(code, reason) {
    this.#forgetSocket();
    const said = `closed by the server: ${code}${reason ? ` ${reason}` : ''}`;
    const terminal = code === 1009 || (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);
    if (terminal) this.#become('offline', said);
    else this.#retry(code === 1006 ? 'the connection was lost' : said);
  }

  #retry(why) {
    const most = Math.min(BACKOFF_MS.most, BACKOFF_MS.first * 2 ** this.#attempt);
    this.#attempt += 1;
    // Full jitter, so that many clients of one lost node do not return in step.
    const wait = Math.max(100, Math.random() * most);
    this.#become('waiting', why);
    this.#timers.retry = setTimeout(() => this.connect(), wait);
  }

  #forgetSocket(code) {
    const socket = this.#socket;
    this.#socket = null;
    for (const timer of Object.values(this.#timers)) clearTimeout(timer);
    for (const { reject, method, timer } of this.#waiting.values()) {
      clearTimeout(timer);
      if (method !== 'connect' && method !== 'subscribe') reject?.(new Error('the connection ended'));
    }
    this.#waiting.clear();
    if (code !== undefined) socket?.close(code);
    for (const sub of this.subs.values()) {
      if (sub.state === 'subscribed') sub.state = 'subscribing';
      this.emit({ type: 'subscription', sub });
    }
  }

  #expectPing() {
    clearTimeout(this.#timers.ping);
    if (this.#ping.interval === 0) return;
    this.#timers.ping = setTimeout(() => {
      this.#forgetSocket(4000);
      this.#retry('no ping from the server');
    }, this.#ping.interval + PING_GRACE_MS);
  }

  #refreshIn(seconds = 0) {
    const wait = Math.min(Math.max(1, seconds) * 1000, LONGEST_TIMER_MS);
    this.#timers.refresh = setTimeout(async () => {
      try {
        const result = await this.request('refresh', { token: await this.token() });
        if (result.expires) this.#refreshIn(result.ttl);
      } catch { /* the server closes the connection in a while, and the next connect has a new token */ }
    }, wait);
  }

  #become(state, detail) {
    this.state = state;
    if (state !== 'online') this.id = '';
    this.emit({ type: 'state', state, detail });
  }
}
