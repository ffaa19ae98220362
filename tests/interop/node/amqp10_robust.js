// rhea's own reconnection: links are attached again on the new connection.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const rhea = require('rhea');
const harness = require('./harness');

const url = new URL(process.env.AMQP_URL);

/** A connection that tries again soon. */
function connect() {
  const connection = rhea.create_container().connect({
    host: url.hostname, port: Number(url.port), username: url.username, password: url.password,
    initial_reconnect_delay: 50, max_reconnect_delay: 200,
  });
  for (const told of ['error', 'connection_error', 'session_error', 'disconnected']) connection.on(told, () => {});
  return connection;
}

/** A durable queue, made by the other protocol, with its address. */
async function queue() {
  const connection = await harness.connect();
  const channel = await connection.createChannel();
  const name = harness.unique('outage');
  await channel.assertQueue(name, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  await connection.close();
  return `/queues/${encodeURIComponent(name)}`;
}

module.exports = {
  async 'links go on after outages'() {
    const address = await queue();
    const connection = connect();
    const sender = connection.open_sender({ target: address, autosettle: true });
    const receiver = connection.open_receiver({ source: address, credit_window: 10, autoaccept: true });
    const came = [];
    let wake = () => {};
    receiver.on('message', ({ message }) => {
      came.push(message.body);
      wake();
    });
    await harness.within(once(sender, 'sendable'), 'credit');
    for (const kind of ['cut', 'restart', 'kill', 'cut']) {
      const accepted = once(sender, 'accepted');
      sender.send({ body: kind, durable: true });
      await harness.within(accepted, `the outcome before ${kind}`);
      // One whose outcome was lost comes again before it.
      do {
        while (came.length === 0) await harness.within(new Promise((resolve) => { wake = resolve; }), 'a message');
      } while (came.shift() !== kind);
      const again = once(connection, 'connection_open');
      await harness.outage(kind);
      await harness.within(again, `the connection after ${kind}`);
    }
    connection.close();
    await harness.within(once(connection, 'connection_close'), 'close');
  },

  async 'nothing accepted is lost'() {
    const address = await queue();
    const connection = connect();
    const sender = connection.open_sender({ target: address, autosettle: true });
    const accepted = new Set();
    const numbers = new Map();
    let sent = 0;
    let wanted = 0;
    let wake = () => {};
    const pump = () => {
      while (sent < wanted && sender.sendable()) {
        numbers.set(sender.send({ body: sent, durable: true }), sent);
        sent += 1;
      }
    };
    sender.on('sendable', pump);
    for (const outcome of ['accepted', 'released', 'rejected', 'modified']) {
      sender.on(outcome, ({ delivery }) => {
        if (outcome === 'accepted') accepted.add(numbers.get(delivery));
        wake();
      });
    }
    await harness.within(once(sender, 'sendable'), 'credit');
    for (const kind of ['cut', 'kill', 'cut']) {
      const before = accepted.size;
      wanted = sent + 500;
      pump();
      // Some of those are under way when it fails.
      while (accepted.size === before) {
        await harness.within(new Promise((resolve) => { wake = resolve; }), 'outcomes');
      }
      const again = once(connection, 'connection_open');
      await harness.outage(kind);
      await harness.within(again, `the connection after ${kind}`);
    }
    connection.close();
    await harness.within(once(connection, 'connection_close'), 'close');
    const reader = connect();
    const receiver = reader.open_receiver({ source: address, credit_window: 100, autoaccept: true });
    const missing = new Set(accepted);
    await harness.within(new Promise((done) => receiver.on('message', ({ message }) => {
      missing.delete(message.body);
      if (missing.size === 0) done();
    })), 'all that was accepted');
    assert.ok(accepted.size > 0);
    reader.close();
    await harness.within(once(reader, 'connection_close'), 'close');
  },
};
