// Refusals as amqplib shows them.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const amqp = require('amqplib');
const { connect, expectChannelClose, ownQueue, unique, within } = require('./harness');

module.exports = {
  async absent_exchange(connection) {
    const name = unique('absent');
    await expectChannelClose(connection, 404, `NOT_FOUND - no exchange '${name}' in vhost '/'`, (channel) =>
      channel.publish(name, 'key', Buffer.from('x')));
  },

  async absent_queue(connection) {
    const name = unique('absent');
    await expectChannelClose(connection, 404, `NOT_FOUND - no queue '${name}' in vhost '/'`, (channel) =>
      channel.checkQueue(name));
  },

  async locked_queue(connection) {
    const queue = await ownQueue(await connection.createChannel());
    const other = await connect();
    await expectChannelClose(other, 405, `cannot obtain exclusive access to locked queue '${queue}' in vhost '/'`,
      (channel) => channel.checkQueue(queue));
    await other.close();
  },

  async inequivalent_queue(connection) {
    const queue = unique('queue');
    await (await connection.createChannel()).assertQueue(queue, { exclusive: true });
    const text = `PRECONDITION_FAILED - inequivalent arg 'auto_delete' for queue '${queue}' in vhost '/': ` +
      "received 'true' but current is 'false'";
    await expectChannelClose(connection, 406, text, (channel) =>
      channel.assertQueue(queue, { exclusive: true, autoDelete: true }));
  },

  async unknown_delivery_tag(connection) {
    await expectChannelClose(connection, 406, 'PRECONDITION_FAILED - unknown delivery tag 42', (channel) =>
      channel.ack({ fields: { deliveryTag: 42 } }));
  },

  async duplicate_consumer_tag(connection) {
    const closed = once(connection, 'error');
    const channel = await connection.createChannel();
    channel.on('error', () => {});
    const queue = await ownQueue(channel);
    await channel.consume(queue, () => {}, { consumerTag: 'twice' });
    channel.consume(queue, () => {}, { consumerTag: 'twice' }).catch(() => {});
    const [error] = await within(closed, '530');
    assert.equal(error.code, 530);
    assert.match(error.message, /NOT_ALLOWED - attempt to reuse consumer tag 'twice'/);
  },

  async bad_logins() {
    const url = new URL(process.env.AMQP_URL);
    url.password = 'wrong';
    await assert.rejects(amqp.connect(url.href), /403 \(ACCESS-REFUSED\)|ACCESS_REFUSED/);
    const elsewhere = process.env.AMQP_URL.replace(/\/%2f$/i, '/nowhere');
    // amqplib does not look into the close that it gets in place of open-ok.
    await assert.rejects(amqp.connect(elsewhere), /got <ConnectionClose channel:0>/);
  },
};
