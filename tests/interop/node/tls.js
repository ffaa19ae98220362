// rhea: a password through TLS, and a certificate instead of a password.
//
// TLS_PORT names the port, TLS_CA, TLS_CERTIFICATE and TLS_KEY the files of the authority and of the user alice.
'use strict';

const assert = require('node:assert/strict');
const { once } = require('node:events');
const fs = require('node:fs');
const rhea = require('rhea');
const { within } = require('./harness');

/** A connection through TLS; what else there is says how to log in. */
function connect(options) {
  const connection = rhea.create_container().connect({
    host: 'localhost', port: Number(process.env.TLS_PORT), transport: 'tls', ca: [fs.readFileSync(process.env.TLS_CA)],
    reconnect: false, ...options,
  });
  connection.on('error', () => {});
  connection.on('disconnected', () => {});
  return connection;
}

function certificate() {
  return { cert: fs.readFileSync(process.env.TLS_CERTIFICATE), key: fs.readFileSync(process.env.TLS_KEY) };
}

/** Sends a large message through a queue of the connection's own, and takes it. */
async function through(connection) {
  await within(once(connection, 'connection_open'), 'open');
  const receiver = connection.open_receiver({ source: { dynamic: true, capabilities: ['temporary-queue'] } });
  await within(once(receiver, 'receiver_open'), 'the receiver');
  const sender = connection.open_sender(receiver.source.address);
  await within(once(sender, 'sendable'), 'the sender');
  const body = Buffer.alloc(900_000, (at) => at);
  for (let at = 0; at < body.length; at++) body[at] = at ^ (at >> 9);
  const came = once(receiver, 'message');
  sender.send({ body: rhea.message.data_section(body) });
  const [{ message }] = await within(came, 'the message');
  assert.ok(message.body.content.equals(body));
  connection.close();
  await within(once(connection, 'connection_close'), 'close');
}

module.exports = {
  async 'messages go through TLS'() {
    await through(connect({ username: 'guest', password: 'guest' }));
  },

  async 'a certificate is as good as a password'() {
    await through(connect({ enable_sasl_external: true, ...certificate() }));
  },

  async 'with a certificate that it does not use it is nobody'() {
    const connection = connect(certificate());
    const refused = Promise.race(['connection_error', 'disconnected'].map((name) => once(connection, name)));
    const [{ error }] = await within(refused, 'a refusal');
    assert.ok(error);
    assert.ok(!connection.is_open());
  },
};
