// The four types by their tables, and bindings between exchanges.
'use strict';

const assert = require('node:assert/strict');
const { drain, expectChannelClose, ownExchange, ownQueue, publish, routingCases, unique } = require('./harness');

async function checkRoutes(channel, exchange, queues, routes) {
  for (const { key, queues: wanted } of routes) {
    await publish(channel, exchange, key, 'x');
    for (const [name, queue] of queues) {
      const found = (await drain(channel, queue)).length;
      assert.equal(found, wanted.includes(name) ? 1 : 0, `copies for the key '${key}' in ${name}`);
    }
  }
}

module.exports = {
  async topic_by_its_table(connection) {
    const channel = await connection.createConfirmChannel();
    const { bindings, routes, unbind, routes_after: routesAfter } = routingCases('topic.json');
    const exchange = await ownExchange(channel, 'topic');
    const queues = new Map();
    for (const binding of bindings) {
      if (!queues.has(binding.queue)) queues.set(binding.queue, await ownQueue(channel));
      await channel.bindQueue(queues.get(binding.queue), exchange, binding.pattern, binding.arguments);
    }
    await checkRoutes(channel, exchange, queues, routes);
    for (const index of unbind) {
      const binding = bindings[index];
      await channel.unbindQueue(queues.get(binding.queue), exchange, binding.pattern, binding.arguments);
    }
    await checkRoutes(channel, exchange, queues, routesAfter);
  },

  async headers_by_its_table(connection) {
    const channel = await connection.createConfirmChannel();
    const { cases } = routingCases('headers.json');
    for (const { name, arguments: bound, headers, routed } of cases) {
      const exchange = await ownExchange(channel, 'headers');
      const queue = await ownQueue(channel);
      await channel.bindQueue(queue, exchange, '', bound);
      await publish(channel, exchange, '', 'x', headers === null ? {} : { headers });
      assert.deepEqual(await drain(channel, queue), routed ? ['x'] : [], name);
    }
  },

  async headers_refuses_another_x_match(connection) {
    const channel = await connection.createConfirmChannel();
    const exchange = await ownExchange(channel, 'headers');
    const queue = await ownQueue(channel);
    await expectChannelClose(connection, 406, 'PRECONDITION_FAILED', (other) =>
      other.bindQueue(queue, exchange, '', { 'x-match': 'none' }));
  },

  async direct_and_fanout(connection) {
    const channel = await connection.createConfirmChannel();
    const direct = await ownExchange(channel, 'direct');
    const fanout = await ownExchange(channel, 'fanout');
    const first = await ownQueue(channel);
    const second = await ownQueue(channel);
    await channel.bindQueue(first, direct, 'one');
    await channel.bindQueue(second, direct, 'two');
    for (const queue of [first, second]) await channel.bindQueue(queue, fanout, '');
    await publish(channel, direct, 'one', 'direct');
    await publish(channel, fanout, 'one', 'fanout');
    assert.deepEqual(await drain(channel, first), ['direct', 'fanout']);
    assert.deepEqual(await drain(channel, second), ['fanout']);
  },

  async exchange_to_exchange(connection) {
    const channel = await connection.createConfirmChannel();
    const source = await ownExchange(channel, 'topic');
    const destination = await ownExchange(channel, 'fanout');
    const queue = await ownQueue(channel);
    await channel.bindExchange(destination, source, '#.b');
    await channel.bindQueue(queue, destination, '');
    await publish(channel, source, 'a.b', 'through');
    await publish(channel, source, 'a.c', 'not');
    assert.deepEqual(await drain(channel, queue), ['through']);
  },

  async alternate_exchange(connection) {
    const channel = await connection.createConfirmChannel();
    const alternate = await ownExchange(channel, 'fanout');
    const caught = await ownQueue(channel);
    await channel.bindQueue(caught, alternate, '');
    const name = unique('first');
    await channel.assertExchange(name, 'direct', { durable: false, alternateExchange: alternate });
    await publish(channel, name, 'nobody', 'x');
    const message = await channel.get(caught, { noAck: true });
    assert.deepEqual([message.fields.exchange, message.fields.routingKey], [name, 'nobody']);
    await channel.deleteExchange(name);
  },
};
