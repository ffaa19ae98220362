// Publish, consume, get, acknowledge, confirm, return.
'use strict';

const assert = require('node:assert/strict');
const { connect, drain, ownQueue, publish, unique, within } = require('./harness');

/** Consumes until `count` messages have come. */
function consume(channel, queue, count, options) {
  const messages = [];
  const all = new Promise((resolve, reject) => {
    channel
      .consume(
        queue,
        (message) => {
          messages.push(message);
          if (messages.length === count) resolve(messages);
        },
        options,
      )
      .catch(reject);
  });
  return within(all, `${count} deliveries`);
}

module.exports = {
  async properties_come_back(connection) {
    const channel = await connection.createConfirmChannel();
    const queue = await ownQueue(channel);
    const properties = {
      contentType: 'text/plain', contentEncoding: 'utf-8', deliveryMode: 2, priority: 5, correlationId: 'c',
      replyTo: 'r', expiration: '600000', messageId: 'm', timestamp: 1700000000, type: 't', appId: 'a',
      headers: {
        text: 'ä', yes: true, small: 1, large: 2 ** 40, double: 1.5, list: [1, 'two'], table: { inner: 'x' },
        bytes: Buffer.from([0, 255]), nothing: null,
      },
    };
    await publish(channel, '', queue, 'body', { ...properties, persistent: true });
    const message = await channel.get(queue, { noAck: true });
    assert.equal(message.content.toString(), 'body');
    for (const [name, value] of Object.entries(properties)) assert.deepEqual(message.properties[name], value, name);
  },

  async a_thousand_in_order(connection) {
    const channel = await connection.createConfirmChannel();
    const queue = await ownQueue(channel);
    const bodies = Array.from({ length: 1000 }, (_, number) => String(number));
    for (const body of bodies) channel.publish('', queue, Buffer.from(body));
    await channel.waitForConfirms();
    const messages = await consume(channel, queue, bodies.length, { noAck: true });
    assert.deepEqual(messages.map((message) => message.content.toString()), bodies);
  },

  async one_mebibyte(connection) {
    const channel = await connection.createConfirmChannel();
    const queue = await ownQueue(channel);
    const body = Buffer.alloc(1 << 20, 'leveret');
    await publish(channel, '', queue, body);
    const [message] = await consume(channel, queue, 1);
    assert.ok(message.content.equals(body));
  },

  async acknowledged_is_gone_and_nacked_comes_again(connection) {
    const channel = await connection.createConfirmChannel();
    const queue = await ownQueue(channel);
    await publish(channel, '', queue, '1');
    await publish(channel, '', queue, '2');
    channel.ack(await channel.get(queue));
    channel.nack(await channel.get(queue));
    const again = await channel.get(queue);
    assert.deepEqual([again.content.toString(), again.fields.redelivered], ['2', true]);
    channel.reject(again, false);
    assert.equal(await channel.get(queue), false);
  },

  async nack_all_brings_all_back(connection) {
    const channel = await connection.createConfirmChannel();
    const queue = await ownQueue(channel);
    for (const body of ['1', '2', '3']) await publish(channel, '', queue, body);
    for (let count = 0; count < 3; count += 1) await channel.get(queue);
    channel.nackAll(true);
    assert.deepEqual(await drain(channel, queue), ['1', '2', '3']);
  },

  async prefetch_holds_the_rest_back(connection) {
    const channel = await connection.createConfirmChannel();
    const queue = await ownQueue(channel);
    for (let count = 0; count < 6; count += 1) await publish(channel, '', queue, 'x');
    await channel.prefetch(2);
    const messages = await consume(channel, queue, 2);
    assert.equal((await channel.checkQueue(queue)).messageCount, 4);
    assert.equal(messages.length, 2);
  },

  async cancelled_by_the_broker(connection) {
    const channel = await connection.createConfirmChannel();
    const queue = await ownQueue(channel);
    const cancelled = consume(channel, queue, 1);
    await channel.checkQueue(queue);
    await (await connection.createChannel()).deleteQueue(queue);
    // amqplib hands over null for the broker's basic.cancel.
    assert.deepEqual(await cancelled, [null]);
  },

  async replies_come_without_a_queue(connection) {
    const replyTo = 'amq.rabbitmq.reply-to';
    const [asking, serving] = [await connection.createConfirmChannel(), await connection.createConfirmChannel()];
    const queue = await ownQueue(serving);
    const answer = ({ content, properties }) =>
      publish(serving, '', properties.replyTo, `${content}!`, { correlationId: properties.correlationId, mandatory: true });
    await serving.consume(queue, answer, { noAck: true });
    const numbers = Array.from({ length: 100 }, (_, number) => String(number));
    const replies = consume(asking, replyTo, numbers.length, { noAck: true });
    for (const correlationId of numbers) await publish(asking, '', queue, correlationId, { replyTo, correlationId });
    const came = (await replies).map(({ content, properties }) => [content.toString(), properties.correlationId]);
    assert.deepEqual(came, numbers.map((number) => [`${number}!`, number]));
  },

  async returned_before_its_confirm(connection) {
    const channel = await connection.createConfirmChannel();
    const key = unique('nobody');
    const order = [];
    channel.on('return', (message) => order.push(['return', message.fields.replyCode, message.fields.replyText,
      message.fields.routingKey, message.content.toString()]));
    await publish(channel, 'amq.direct', key, 'x', { mandatory: true });
    order.push(['confirm']);
    assert.deepEqual(order, [['return', 312, 'NO_ROUTE', key, 'x'], ['confirm']]);
  },

  async unroutable_is_confirmed(connection) {
    const channel = await connection.createConfirmChannel();
    await publish(channel, 'amq.fanout', unique('nobody'), 'x');
  },

  async many_channels(connection) {
    const channels = await Promise.all(Array.from({ length: 200 }, () => connection.createConfirmChannel()));
    const queues = await Promise.all(channels.map(ownQueue));
    await Promise.all(channels.map((channel, place) => publish(channel, '', queues[place], String(place))));
    const bodies = await Promise.all(channels.map((channel, place) => drain(channel, queues[place])));
    bodies.forEach((found, place) => assert.deepEqual(found, [String(place)]));
  },

  async two_connections_share_a_queue(connection) {
    const channel = await connection.createConfirmChannel();
    const name = unique('shared');
    await channel.assertQueue(name, { durable: true });
    const other = await connect();
    try {
      await publish(channel, '', name, 'x');
      const message = await (await other.createChannel()).get(name, { noAck: true });
      assert.equal(message.content.toString(), 'x');
    } finally {
      await other.close();
      await channel.deleteQueue(name);
    }
  },
};
