// AMQP 1.0: rhea, on the same port as the other protocol.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const rhea = require('rhea');
const harness = require('./harness');

const url = new URL(process.env.AMQP_URL);

/** A connection by AMQP 1.0, closed when the case is over. */
async function dial(body, options = {}) {
  const connection = rhea.create_container().connect({
    host: url.hostname, port: Number(url.port), username: url.username, password: url.password, reconnect: false,
    ...options,
  });
  connection.on('error', () => {});
  await harness.within(once(connection, 'connection_open'), 'open');
  try {
    return await body(connection);
  } finally {
    connection.close();
    await harness.within(once(connection, 'connection_close'), 'close').catch(() => {});
  }
}

/** The first argument of the next event. */
async function next(emitter, event) {
  return (await harness.within(once(emitter, event), event))[0];
}

async function queue(connection, options = {}) {
  const channel = await connection.createConfirmChannel();
  const name = harness.unique('amqp10');
  await channel.assertQueue(name, { durable: true, ...options });
  return { channel, name, address: `/queues/${encodeURIComponent(name)}` };
}

async function sender(connection, target, options = {}) {
  const link = connection.open_sender({ target, ...options });
  await next(link, 'sendable');
  return link;
}

/** Sends, and waits for what became of it: the outcome's name, and the condition of a rejection. */
async function send(link, message) {
  const outcomes = ['accepted', 'released', 'rejected', 'modified'];
  const controller = new AbortController();
  const told = Promise.race(outcomes.map(async (outcome) => {
    const [{ delivery }] = await once(link, outcome, { signal: controller.signal });
    return [outcome, delivery.remote_state.error?.condition].filter(Boolean).join(' ');
  }));
  link.send(message);
  try {
    return await harness.within(told, 'an outcome');
  } finally {
    controller.abort();
  }
}

async function ready(channel, name) {
  return (await channel.checkQueue(name)).messageCount;
}

module.exports = {
  async 'types and sections come back as they went'(connection) {
    const { address } = await queue(connection);
    await dial(async (amqp10) => {
      const link = await sender(amqp10, address);
      const receiver = amqp10.open_receiver({ source: address, credit_window: 0, autoaccept: true });
      const bodies = [
        'text', rhea.message.data_section(Buffer.from([0, 255])), rhea.message.sequence_section([1, 'two', null]),
        rhea.message.data_sections([Buffer.from('a'), Buffer.from('b')]), rhea.types.wrap_ulong(5),
        { map: [1, 2, { deep: true }] }, [rhea.types.wrap_symbol('s')],
      ];
      for (const body of bodies) {
        const came = next(receiver, 'message');
        receiver.add_credit(1);
        const outcome = await send(link, {
          body, durable: true, subject: 's', application_properties: { n: 1, b: true },
          message_annotations: { 'x-own': 'a' }, message_id: 'id', group_sequence: 7,
        });
        assert.equal(outcome, 'accepted');
        const { message } = await came;
        const shown = (value) => JSON.stringify(value?.value ?? value);
        assert.equal(shown(message.body?.content ?? message.body), shown(body?.content ?? body));
        assert.deepEqual(message.application_properties, { n: 1, b: true });
        assert.equal(message.message_annotations['x-own'], 'a');
        assert.deepEqual([message.subject, message.message_id, message.group_sequence], ['s', 'id', 7]);
      }
    });
  },

  async 'outcomes, one by one and many at once'(connection) {
    const { channel, name, address } = await queue(connection);
    await dial(async (amqp10) => {
      const link = await sender(amqp10, address);
      for (let number = 0; number < 10; number++) await send(link, { body: number });
      const receiver = amqp10.open_receiver({ source: address, credit_window: 0, autoaccept: false, autosettle: true });
      const deliveries = [];
      receiver.on('message', ({ delivery, message }) => deliveries.push({ delivery, body: message.body }));
      const have = async (count) => {
        while (deliveries.length < count) await next(receiver, 'message');
      };
      receiver.add_credit(10);
      await have(10);
      assert.deepEqual(deliveries.map(({ body }) => body), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
      const [released, modified, rejected, ...accepted] = deliveries.splice(0);
      released.delivery.release({});
      modified.delivery.modified({ delivery_failed: true, undeliverable_here: false });
      rejected.delivery.reject({ condition: 'own:reason', description: 'why' });
      accepted.forEach(({ delivery }) => delivery.accept());
      receiver.add_credit(10);
      await have(2);
      assert.deepEqual(deliveries.map(({ body }) => body).sort(), [0, 1]);
      deliveries.forEach(({ delivery }) => delivery.accept());
      receiver.close();
      await next(receiver, 'receiver_close');
      assert.equal(await ready(channel, name), 0);
    });
  },

  async 'what modified adds comes with the message again, and with its dead letter'(connection) {
    const letters = await queue(connection);
    for (const kind of ['classic', 'quorum']) {
      const { address } = await queue(connection, {
        arguments: { 'x-queue-type': kind, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': letters.name },
      });
      await dial(async (amqp10) => {
        const link = await sender(amqp10, address);
        await send(link, { body: 'm', durable: true });
        const receiver = amqp10.open_receiver({ source: address, credit_window: 0, autoaccept: false });
        const take = async () => {
          const came = next(receiver, 'message');
          receiver.add_credit(1);
          return came;
        };
        const first = await take();
        assert.deepEqual([first.message.first_acquirer, first.message.delivery_count ?? 0], [true, 0]);
        first.delivery.modified({
          delivery_failed: true, undeliverable_here: false,
          message_annotations: { 'x-opt-why': 'first', 'x-opt-list': ['a', 1] },
        });
        const again = await take();
        assert.deepEqual([again.message.first_acquirer ?? false, again.message.delivery_count], [false, 1]);
        assert.equal(again.message.message_annotations['x-opt-why'], 'first');
        assert.deepEqual(again.message.message_annotations['x-opt-list'], ['a', 1]);
        again.delivery.modified({
          delivery_failed: true, undeliverable_here: true, message_annotations: { 'x-opt-why': 'second' },
        });
        const dead = amqp10.open_receiver({ source: letters.address, credit_window: 1 });
        const letter = (await next(dead, 'message')).message;
        assert.equal(letter.message_annotations['x-opt-why'], 'second');
        assert.equal(letter.message_annotations['x-first-death-reason'], 'rejected');
      });
    }
  },

  async 'dynamic nodes go with their links'() {
    await dial(async (amqp10) => {
      const node = { dynamic: true, capabilities: ['temporary-queue'] };
      const receiver = amqp10.open_receiver({ source: node, credit_window: 0 });
      await next(receiver, 'receiver_open');
      const { address } = receiver.source;
      const link = await sender(amqp10, address);
      const came = next(receiver, 'message');
      receiver.add_credit(1);
      assert.equal(await send(link, { body: 'reply' }), 'accepted');
      assert.equal((await came).message.body, 'reply');
      receiver.close();
      await next(receiver, 'receiver_close');
      link.send({ body: 'late' });
      assert.equal((await next(link, 'sender_error')).sender.error.condition, 'amqp:resource-deleted');
      const late = amqp10.open_receiver({ source: address });
      assert.equal((await next(late, 'receiver_error')).receiver.error.condition, 'amqp:not-found');
      const made = await sender(amqp10, node);
      assert.equal(await send(made, { body: 'm' }), 'accepted');
      const own = amqp10.open_receiver({ source: made.target.address, credit_window: 1 });
      assert.equal((await next(own, 'message')).message.body, 'm');
    });
  },

  async 'receiver settle mode second, both ways'(connection) {
    const { channel, name, address } = await queue(connection);
    await dial(async (amqp10) => {
      const link = await sender(amqp10, address, { rcv_settle_mode: 1, autosettle: false });
      const accepted = next(link, 'accepted');
      link.send({ body: 'm' });
      const { delivery } = await accepted;
      assert.equal(delivery.remote_settled, false);
      delivery.update(true);
      const receiver = amqp10.open_receiver({
        source: address, credit_window: 1, rcv_settle_mode: 1, autoaccept: false, autosettle: false,
      });
      const came = await next(receiver, 'message');
      const settled = next(receiver, 'settled');
      came.delivery.update(false, rhea.message.accepted().described());
      await settled;
      assert.equal(await ready(channel, name), 0);
    });
  },

  async 'a drained link gives its credit back'(connection) {
    const { address } = await queue(connection);
    await dial(async (amqp10) => {
      const link = await sender(amqp10, address);
      for (let number = 0; number < 3; number++) await send(link, { body: number });
      const receiver = amqp10.open_receiver({ source: address, credit_window: 0 });
      let came = 0;
      receiver.on('message', () => { came += 1; });
      await next(receiver, 'receiver_open');
      const drained = next(receiver, 'receiver_drained');
      receiver.drain_credit();
      receiver.add_credit(100);
      await drained;
      assert.equal(came, 3);
      assert.equal(receiver.credit, 0);
    });
  },

  async 'windows and many links in many sessions'(connection) {
    const { address } = await queue(connection);
    await dial(async (amqp10) => {
      const link = await sender(amqp10, address);
      const total = 5000;
      const came = new Set();
      const sessions = [1, 2, 3].map(() => amqp10.create_session());
      const done = new Promise((resolve) => {
        for (const session of sessions) {
          session.open();
          for (let number = 0; number < 2; number++) {
            const receiver = session.open_receiver({ source: address, credit_window: 50 });
            receiver.on('message', ({ message }) => {
              came.add(message.body);
              if (came.size === total) resolve();
            });
          }
        }
      });
      let sent = 0;
      const pump = () => {
        while (link.sendable() && sent < total) link.send({ body: sent++ });
      };
      link.on('sendable', pump);
      pump();
      await harness.within(done, 'all messages');
    });
  },

  async 'the anonymous relay is offered and used'(connection) {
    const { channel, name, address } = await queue(connection);
    await dial(async (amqp10) => {
      assert.ok(amqp10.remote.open.offered_capabilities.includes('ANONYMOUS-RELAY'));
      const link = await sender(amqp10, {});
      assert.equal(await send(link, { to: address, body: 'm' }), 'accepted');
      assert.equal(await send(link, { to: '/queues/none', body: 'm' }), 'released');
      assert.equal(await send(link, { to: '/exchanges/none/k', body: 'm' }), 'rejected amqp:not-found');
      assert.equal(await send(link, { body: 'm' }), 'rejected amqp:precondition-failed');
      assert.equal(await ready(channel, name), 1);
    });
  },

  async 'a selector chooses messages'(connection) {
    const { channel, name, address } = await queue(connection);
    await dial(async (amqp10) => {
      const link = await sender(amqp10, address);
      for (let number = 0; number < 6; number++) {
        await send(link, { body: number, durable: true, application_properties: { odd: number % 2 === 1 } });
      }
      const source = { address, filter: rhea.filter.selector('odd = TRUE') };
      const receiver = amqp10.open_receiver({ source, credit_window: 10 });
      // They may come in one piece, and so in one turn.
      const bodies = [];
      await harness.within(new Promise((done) => receiver.on('message', ({ message }) => {
        if (bodies.push(message.body) === 3) done();
      })), 'three messages');
      assert.deepEqual(bodies, [1, 3, 5]);
      assert.deepEqual(Object.keys(receiver.remote.attach.source.filter), ['jms-selector']);
      receiver.close();
      await next(receiver, 'receiver_close');
      assert.equal(await ready(channel, name), 3);
      const wrong = { address, filter: rhea.filter.selector('odd = = TRUE') };
      const refused = amqp10.open_receiver({ source: wrong });
      const { error } = (await next(refused, 'receiver_error')).receiver;
      assert.equal(error.condition, 'amqp:invalid-field');
      assert.match(error.description, /at character 7/);
    });
  },

  async 'a link ends with its queue'(connection) {
    const { channel, name, address } = await queue(connection);
    await dial(async (amqp10) => {
      const receiver = amqp10.open_receiver({ source: address });
      await next(receiver, 'receiver_open');
      const gone = next(receiver, 'receiver_error');
      await channel.deleteQueue(name);
      assert.equal((await gone).receiver.error.condition, 'amqp:resource-deleted');
    });
  },

  async 'a wrong password is refused'() {
    const connection = rhea.create_container().connect({
      host: url.hostname, port: Number(url.port), username: url.username, password: 'wrong', reconnect: false,
    });
    connection.on('disconnected', () => {});
    const { error } = await next(connection, 'connection_error');
    assert.match(String(error?.message ?? error), /authenticate/i);
  },
};
