"""Runs one suite of cases against the broker that AMQP_URL names.

Prints `ok NAME` or `FAIL NAME: why` for each case; the exit code is 1 when a case failed.

    AMQP_URL=amqp://guest:guest@127.0.0.1:5672/%2f python main.py queues
"""

import importlib
import sys

import harness

SUITES = (
    "connections", "queues", "messages", "exchanges", "errors", "dead_letters", "tls", "arguments",
    "transactions", "copies", "replies", "consumers", "confirms", "robust", "jobs", "amqp10",
    "amqp10_rabbitmq", "amqp10_recovery",
)

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in SUITES:
        sys.exit("usage: main.py " + "|".join(SUITES))
    importlib.import_module(sys.argv[1])
    sys.exit(harness.run_cases())
