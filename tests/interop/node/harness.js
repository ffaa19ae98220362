// What the cases share: connections, names, the expectation of a close.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const net = require('node:net');
const path = require('node:path');
const amqp = require('amqplib');

const EVENT_WAIT_MAX_MS = 30_000;
/** For a whole case that makes its connections itself. */
const CASE_MAX_MS = 90_000;
const casesDirectory = process.env.ROUTING_CASES || path.join(__dirname, '..', 'cases');
let nextNumber = 0;

/** Runs an object of cases, each with a new connection if it takes one; gives the number that failed. */
async function run(cases) {
  let failed = 0;
  for (const [name, body] of Object.entries(cases)) {
    let connection;
    try {
      if (body.length > 0) connection = await connect();
      await within(body(connection), name, body.length > 0 ? EVENT_WAIT_MAX_MS : CASE_MAX_MS);
      console.log(`ok ${name}`);
    } catch (error) {
      failed += 1;
      console.log(`FAIL ${name}: ${error.message}`);
      console.error(error);
    } finally {
      await close(connection);
    }
  }
  return failed;
}

async function connect(url = process.env.AMQP_URL) {
  const connection = await amqp.connect(url);
  // A case that expects an error of the connection listens by itself; others must not end the process.
  connection.on('error', () => {});
  return connection;
}

/** Closes a connection that the case may have had closed already. */
async function close(connection) {
  try {
    await connection?.close();
  } catch (error) {
    if (!(error instanceof amqp.IllegalOperationError) && !/closed/i.test(error.message)) throw error;
  }
}

/** A promise with a limit. */
function within(promise, what, limit_ms = EVENT_WAIT_MAX_MS) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), limit_ms);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

function unique(stem) {
  return `js-${stem}-${process.pid}-${Date.now().toString(16)}-${nextNumber++}`;
}

async function ownQueue(channel) {
  return (await channel.assertQueue('', { exclusive: true })).queue;
}

async function ownExchange(channel, kind, options = {}) {
  const { exchange } = await channel.assertExchange(unique(kind), kind, { durable: false, autoDelete: true, ...options });
  return exchange;
}

/** Publishes on a confirm channel and waits for the confirm. */
async function publish(channel, exchange, key, body, options = {}) {
  await new Promise((resolve, reject) => {
    channel.publish(exchange, key, Buffer.from(body), options, (error) => (error ? reject(error) : resolve()));
  });
}

/** All bodies that are ready in a queue, taken out. */
async function drain(channel, queue) {
  const bodies = [];
  for (let message; (message = await channel.get(queue, { noAck: true })); ) bodies.push(message.content.toString());
  return bodies;
}

/** The action, given a new channel, must have the broker close that channel so. */
async function expectChannelClose(connection, code, text, action) {
  const channel = await connection.createConfirmChannel();
  const closed = once(channel, 'error');
  // The call itself may fail as well; what counts is the close.
  closed.catch(() => {});
  Promise.resolve()
    .then(() => action(channel))
    .catch(() => {});
  const [error] = await within(closed, `${code} ${text}`);
  assert.equal(error.code, code, error.message);
  assert.ok(error.message.includes(text), error.message);
}

/** Has the broker fail (`cut`, `restart`, `kill`); resolves when it is there again. */
async function outage(kind) {
  const [host, port] = process.env.CONTROL.split(':');
  const control = net.connect(Number(port), host);
  control.write(`${kind}\n`);
  const [answer] = await within(once(control, 'data'), kind);
  assert.equal(answer.toString(), 'over\n');
  control.destroy();
}

function routingCases(name) {
  return JSON.parse(fs.readFileSync(path.join(casesDirectory, name), 'utf8'));
}

module.exports = { connect, drain, expectChannelClose, outage, ownExchange, ownQueue, publish, routingCases, run, unique, within };
