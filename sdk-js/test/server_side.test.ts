/** Subscriptions that the server makes, against a server played frame by frame. */

import { describe, expect, test } from 'vitest';

import { settled } from './support/clock.js';
import { Stage } from './support/wire.js';

describe('subscriptions of the server', () => {
  test('are told of, and recover with the connection', async () => {
    const sub = { recoverable: true, epoch: 'e', offset: 4 };
    const stage = await new Stage().connected({ subs: { news: sub } });
    await stage.line.reply({ push: { channel: 'news', pub: { data: 'five', offset: 5 } } });
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.line.open();
    expect(stage.line.last('connect').request.subs).toEqual({ news: { recover: true, epoch: 'e', offset: 5 } });
    const recovered = { ...sub, was_recovering: true, recovered: true, publications: [{ data: 'six', offset: 6 }] };
    await stage.line.reply({ id: stage.line.last('connect').id, connect: { client: 'c2', subs: { news: recovered } } });
    expect(stage.events.filter(([name]) => name !== 'state')).toMatchObject([
      ['subscribed', { channel: 'news', wasRecovering: false, position: { offset: 4 } }],
      ['publication', { channel: 'news', data: 'five', offset: 5 }],
      ['subscribing', { channel: 'news' }],
      ['subscribed', { channel: 'news', wasRecovering: true, recovered: true }],
      ['publication', { channel: 'news', data: 'six', offset: 6 }],
    ]);
  });

  test('do not ask for recovery where there is none, or where it is void', async () => {
    const subs = { a: { recoverable: true, epoch: 'e', offset: 1 }, b: { positioned: true, epoch: 'e', offset: 1 } };
    const stage = await new Stage().connected({ subs });
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.welcome({ subs });
    expect(stage.line.last('connect').request.subs).toEqual({ a: { recover: true, epoch: 'e', offset: 1 } });
    await stage.line.close(3014);
    await stage.clock.advance(500);
    await stage.line.open();
    expect(stage.line.last('connect').request.subs).toBeUndefined();
  });

  test('come and go by push, and by not being in the next welcome', async () => {
    const stage = await new Stage().connected({ subs: { a: {}, b: {} } });
    await stage.line.reply({ push: { channel: 'c', subscribe: {} } }, { push: { channel: 'a', unsubscribe: { code: 2000, reason: 'r' } } });
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.welcome({ subs: { b: {} } });
    const gone = stage.events.filter(([name]) => name === 'unsubscribed').map(([, event]) => event);
    expect(gone).toMatchObject([{ channel: 'a', code: 2000 }, { channel: 'c' }]);
  });

  test('can be ended, and are not wished for again', async () => {
    const stream = { recoverable: true, epoch: 'e', offset: 1 };
    const stage = await new Stage().connected({ subs: { a: stream } });
    const ended = stage.client.unsubscribe('a');
    await settled();
    const { id, request } = stage.line.last('unsubscribe');
    expect(request).toEqual({ channel: 'a' });
    await stage.line.reply({ id, unsubscribe: {} });
    await ended;
    expect(stage.events.at(-1)).toEqual(['unsubscribed', { channel: 'a', code: 0, reason: 'called' }]);
    await stage.line.close(1006);
    await stage.clock.advance(500);
    await stage.line.open();
    expect(stage.line.last('connect').request.subs).toBeUndefined();
    stage.client.disconnect();
    await expect(stage.client.unsubscribe('a')).rejects.toMatchObject({ code: 3 });
  });

  test('end behind the server\'s last word', async () => {
    const stage = await new Stage().connected({ subs: { a: {} } });
    stage.client.on('disconnected', () => stage.client.connect());
    await stage.line.reply(
      { push: { disconnect: { code: 3500, reason: 'r' } } },
      { push: { channel: 'a', pub: { data: 'too late' } } },
    );
    expect(stage.events.filter(([name]) => name === 'publication')).toEqual([]);
    expect(stage.lines).toHaveLength(2);
  });
});
