// Runs one suite of cases against the broker that AMQP_URL names.
//
// Prints `ok NAME` or `FAIL NAME: why` for each case; the exit code is 1 when a case failed.
//
//     AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f node main.js messages
'use strict';

const harness = require('./harness');

const suites = ['messages', 'exchanges', 'errors', 'robust', 'amqp10', 'amqp10_robust', 'tls'];
const suite = process.argv[2];
if (!suites.includes(suite)) {
  console.error(`usage: main.js ${suites.join('|')}`);
  process.exit(2);
}
harness.run(require(`./${suite}`)).then((failed) => process.exit(failed ? 1 : 0));
