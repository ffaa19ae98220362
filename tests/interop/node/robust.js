// rabbitmq-client, whose connections, publishers and consumers mend themselves; and what amqplib is told.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { Connection } = require('rabbitmq-client');
const { connect, outage, publish, unique, within } = require('./harness');

/** The next event of this name. Unlike `events.once`, an error meanwhile is no reason to give up. */
function happens(emitter, name) {
  return new Promise((resolve) => emitter.once(name, (...values) => resolve(values)));
}

/** A connection that tries again soon; what it tells of outages is no news. */
function open(options = {}) {
  const rabbit = new Connection({ url: process.env.AMQP_URL, retryLow: 50, retryHigh: 200, ...options });
  rabbit.on('error', () => {});
  return rabbit;
}

/** A consumer that is ready, and a function that gives the next message that it gets. */
async function consumer(rabbit, options, handler = () => {}) {
  const came = [];
  let wake = () => {};
  const subscription = rabbit.createConsumer(options, async (message, reply) => {
    came.push(message);
    wake();
    return handler(message, reply);
  });
  subscription.on('error', () => {});
  await within(happens(subscription, 'ready'), 'the consumer');
  const next = async () => {
    while (came.length === 0) await within(new Promise((resolve) => { wake = resolve; }), 'a message');
    return came.shift();
  };
  return { subscription, next };
}

/** The outage, until the consumer is there again. */
async function through(kind, subscription) {
  const ready = happens(subscription, 'ready');
  await outage(kind);
  await within(ready, `the consumer after ${kind}`);
}

module.exports = {
  async a_consumer_goes_on_after_outages() {
    const rabbit = open();
    const queue = unique('outage');
    const { subscription, next } = await consumer(rabbit, {
      queue, queueOptions: { durable: true, arguments: { 'x-queue-type': 'quorum' } }, qos: { prefetchCount: 1 },
    });
    const publisher = rabbit.createPublisher({ confirm: true, maxAttempts: 100 });
    for (const kind of ['cut', 'restart', 'kill', 'cut']) {
      await publisher.send({ routingKey: queue, durable: true }, kind);
      let message;
      // One whose acknowledgement was lost comes again before it.
      do message = await next(); while (message.body !== kind);
      await through(kind, subscription);
    }
    await publisher.close();
    await subscription.close();
    await rabbit.queueDelete(queue);
    await rabbit.close();
  },

  async an_exclusive_queue_and_its_bindings_are_made_again() {
    const rabbit = open();
    const exchange = unique('topic');
    const { subscription, next } = await consumer(rabbit, {
      queue: unique('exclusive'), queueOptions: { exclusive: true }, noAck: true,
      exchanges: [{ exchange, type: 'topic', autoDelete: true }], queueBindings: [{ exchange, routingKey: 'a.*' }],
    });
    const publisher = rabbit.createPublisher({ confirm: true, maxAttempts: 100 });
    for (let number = 0; number < 5; number += 1) {
      await publisher.send({ exchange, routingKey: 'a.b' }, String(number));
      assert.equal((await next()).body, String(number));
      await through('cut', subscription);
    }
    await publisher.close();
    await subscription.close();
    await rabbit.close();
  },

  async nothing_confirmed_is_lost_in_outages_under_load() {
    const messages = 5000;
    const rabbit = open();
    const queue = unique('load');
    await rabbit.queueDeclare({ queue, durable: true });
    const publisher = rabbit.createPublisher({ confirm: true, maxAttempts: 100 });
    let confirmed = 0;
    let next = 0;
    const outages = new Map([[500, 'cut'], [1500, 'kill'], [2500, 'cut']]);
    const under_way = [];
    const sender = async () => {
      while (next < messages) {
        const number = next++;
        await publisher.send({ routingKey: queue, durable: true }, String(number));
        confirmed += 1;
        if (outages.has(confirmed)) under_way.push(outage(outages.get(confirmed)));
      }
    };
    await within(Promise.all(Array.from({ length: 200 }, sender)), 'all confirms', 90_000);
    await Promise.all(under_way);
    assert.deepEqual([confirmed, under_way.length], [messages, 3]);
    const found = new Set();
    for (let got; (got = await rabbit.basicGet({ queue, noAck: true })); ) found.add(Number(got.body));
    const lost = Array.from({ length: messages }, (_, number) => number).filter((number) => !found.has(number));
    assert.deepEqual(lost, []);
    await publisher.close();
    await rabbit.queueDelete(queue);
    await rabbit.close();
  },

  async a_consumer_that_the_broker_cancels_comes_back() {
    const rabbit = open();
    const queue = unique('cancelled');
    const { subscription, next } = await consumer(rabbit, { queue, queueOptions: { durable: true } });
    const [cancelled, ready] = [happens(subscription, 'error'), happens(subscription, 'ready')];
    await rabbit.queueDelete(queue);
    const [error] = await within(cancelled, 'basic.cancel');
    assert.match(String(error), /CANCEL/i);
    await within(ready, 'the consumer');
    const publisher = rabbit.createPublisher({ confirm: true });
    await publisher.send({ routingKey: queue, mandatory: true }, 'again');
    assert.equal((await next()).body, 'again');
    await publisher.close();
    await subscription.close();
    await rabbit.queueDelete(queue);
    await rabbit.close();
  },

  async what_is_dropped_waits_and_comes_again() {
    const rabbit = open();
    const [queue, waiting] = [unique('retry'), unique('waiting')];
    await rabbit.queueDeclare({
      queue: waiting, durable: true,
      arguments: { 'x-message-ttl': 100, 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': queue },
    });
    const deaths = (message) => (message.headers?.['x-death'] ?? []).find((death) => death.queue === queue)?.count ?? 0;
    const { subscription, next } = await consumer(
      rabbit,
      {
        queue, requeue: false,
        queueOptions: {
          durable: true, arguments: { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': waiting },
        },
      },
      // 2 is the status of a drop.
      (message) => (deaths(message) < 3 ? 2 : 0),
    );
    await rabbit.createPublisher({ confirm: true }).send({ routingKey: queue, durable: true }, 'x');
    for (let count = 0; count <= 3; count += 1) assert.equal(deaths(await next()), count);
    await subscription.close();
    await rabbit.queueDelete(queue);
    await rabbit.queueDelete(waiting);
    rabbit.unsafeDestroy();
  },

  async requests_are_answered_without_a_queue_for_replies() {
    const [rabbit, serving] = [open(), open()];
    const queue = unique('served');
    const { subscription } = await consumer(
      serving, { queue, queueOptions: { durable: true } }, (request, reply) => reply(`${request.body}!`),
    );
    const client = rabbit.createRPCClient({ confirm: true, maxAttempts: 100, timeout: 1000 });
    for (const kind of ['cut', 'restart', 'cut']) {
      assert.equal((await client.send(queue, kind)).body, `${kind}!`);
      await through(kind, subscription);
    }
    const bodies = Array.from({ length: 200 }, (_, number) => String(number));
    const answers = await Promise.all(bodies.map((body) => client.send(queue, body)));
    assert.deepEqual(answers.map((answer) => answer.body), bodies.map((body) => `${body}!`));
    await client.close();
    await subscription.close();
    await rabbit.queueDelete(queue);
    await rabbit.close();
    await serving.close();
  },

  async amqplib_is_told_why_and_may_declare_an_exclusive_queue_again() {
    const queue = unique('exclusive');
    for (let round = 0; round < 2; round += 1) {
      const connection = await connect();
      const channel = await connection.createConfirmChannel();
      await channel.assertQueue(queue, { exclusive: true });
      for (let count = 0; count < 20_000; count += 1) channel.sendToQueue(queue, Buffer.from('x'));
      await channel.waitForConfirms();
      assert.equal((await channel.checkQueue(queue)).messageCount, 20_000);
      // This client does not take it for an error.
      const why = within(once(connection, 'close'), 'the close');
      await outage('restart');
      const [error] = await why;
      assert.equal(error.code, 320);
      assert.match(error.message, /CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'/);
    }
  },

  async amqplib_is_told_that_it_is_blocked() {
    const [connection, other] = [await connect(), await connect()];
    const reader = await other.createChannel();
    const { queue } = await reader.assertQueue('', { durable: false, exclusive: true });
    const blocked = within(once(connection, 'blocked'), 'connection.blocked');
    const channel = await connection.createConfirmChannel();
    const body = Buffer.alloc(256 * 1024, 'x');
    const sending = Promise.all(Array.from({ length: 100 }, () => publish(channel, '', queue, body)));
    assert.deepEqual(await blocked, ['low on memory']);
    const unblocked = within(once(connection, 'unblocked'), 'connection.unblocked');
    await reader.consume(queue, () => {}, { noAck: true });
    await unblocked;
    await within(sending, 'all confirms');
    await connection.close();
    await other.close();
  },

  async blocked_and_unblocked() {
    const rabbit = open();
    const queue = unique('full');
    const [other, blocked] = [open(), happens(rabbit, 'connection.blocked')];
    await other.queueDeclare({ queue, durable: false, exclusive: true });
    const publisher = rabbit.createPublisher({ confirm: true });
    // In memory alone, and more of it than the broker is to hold.
    const body = Buffer.alloc(256 * 1024, 'x');
    const sending = Promise.all(Array.from({ length: 100 }, () => publisher.send({ routingKey: queue }, body)));
    const [reason] = await within(blocked, 'connection.blocked');
    assert.equal(reason, 'low on memory');
    const unblocked = happens(rabbit, 'connection.unblocked');
    const { subscription } = await consumer(other, { queue, queueOptions: { durable: false, exclusive: true }, noAck: true });
    await within(unblocked, 'connection.unblocked');
    await within(sending, 'all confirms');
    await publisher.close();
    await rabbit.close();
    await subscription.close();
    await other.close();
  },
};
