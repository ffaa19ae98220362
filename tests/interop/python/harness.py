"""Cases, and what they share: connections, names, the expectation of a close."""

import asyncio
import contextlib
import functools
import inspect
import itertools
import json
import os
import socket
import time
import traceback

import pika
from pika.exceptions import ChannelClosedByBroker

URL = os.environ["AMQP_URL"]
ROUTING_CASES = os.environ.get("ROUTING_CASES", os.path.join(os.path.dirname(__file__), "..", "cases"))

#: Seconds until an expected event counts as missing.
EVENT_WAIT_MAX = 30

#: Seconds for a whole case that runs by itself.
CASE_MAX = 90

_cases = []
_numbers = itertools.count()


def case(function):
    """Registers a function as a case. It is called with a new connection."""
    _cases.append(function)
    return function


def case_of_its_own(function):
    """Registers a function as a case that makes its connections itself: it is called with nothing, and may be async."""

    @functools.wraps(function)
    def run():
        if inspect.iscoroutinefunction(function):
            asyncio.run(asyncio.wait_for(function(), CASE_MAX))
        else:
            function()

    run.of_its_own = True
    _cases.append(run)
    return function


def run_cases():
    """Runs every registered case; gives the exit code."""
    failed = 0
    for function in _cases:
        name = function.__name__
        try:
            if hasattr(function, "of_its_own"):
                function()
            else:
                with connect() as connection:
                    function(connection)
        except Exception as error:  # A case may fail in any way; the next one runs all the same.
            failed += 1
            print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
            traceback.print_exc()
        else:
            print(f"ok {name}", flush=True)
    return 1 if failed else 0


def parameters(**changes):
    """The parameters of a connection, with these attributes set."""
    result = pika.URLParameters(URL)
    result.socket_timeout = result.stack_timeout = result.blocked_connection_timeout = EVENT_WAIT_MAX
    for name, value in changes.items():
        setattr(result, name, value)
    return result


@contextlib.contextmanager
def connect(**changes):
    """A connection that is closed at the end, whatever happened."""
    connection = pika.BlockingConnection(parameters(**changes))
    try:
        yield connection
    finally:
        if connection.is_open:
            connection.close()


def unique(stem):
    """A name that no other case and no other run uses."""
    return f"py-{stem}-{os.getpid()}-{time.time_ns():x}-{next(_numbers)}"


def equal(found, wanted, what=""):
    assert found == wanted, f"{what} is {found!r}, not {wanted!r}"


def own_queue(channel, **options):
    """Declares an exclusive queue named by the server."""
    return channel.queue_declare("", exclusive=True, **options).method.queue


def own_exchange(channel, kind, **options):
    """Declares an exchange that goes with its last binding."""
    name = unique(kind)
    channel.exchange_declare(name, kind, auto_delete=True, **options)
    return name


def drain(channel, queue):
    """All bodies that are ready in a queue, taken out."""
    bodies = []
    while True:
        method, _, body = channel.basic_get(queue, auto_ack=True)
        if method is None:
            return bodies
        bodies.append(body)


def counts(channel, queue):
    """Ready messages and consumers of a queue."""
    method = channel.queue_declare(queue, passive=True).method
    return method.message_count, method.consumer_count


def consume_until(connection, channel, queue, wanted, **options):
    """Consumes until `wanted` deliveries have come; gives the consumer tag and the deliveries."""
    deliveries = []
    tag = channel.basic_consume(queue, lambda _, *delivery: deliveries.append(delivery), **options)
    await_that(connection, lambda: len(deliveries) >= wanted, f"{wanted} deliveries")
    return tag, deliveries


def await_that(connection, condition, what):
    """Handles events until the condition holds."""
    deadline = time.monotonic() + EVENT_WAIT_MAX
    while not condition():
        left = deadline - time.monotonic()
        assert left > 0, f"waited in vain for {what}"
        connection.process_data_events(time_limit=left)


def expect_channel_close(connection, code, text, action):
    """The action, given a new channel, must have the broker close that channel so."""
    channel = connection.channel()
    try:
        action(channel)
        # What has no answer of its own (publish, ack) is refused before this is answered.
        channel.basic_qos(prefetch_count=1)
    except ChannelClosedByBroker as closed:
        equal((closed.reply_code, closed.reply_text), (code, text), "the close")
    else:
        raise AssertionError(f"expected {code} {text}, but it was accepted")
    assert connection.is_open, "the connection is closed too"


def routing_cases(name):
    with open(os.path.join(ROUTING_CASES, name), encoding="utf-8") as file:
        return json.load(file)


def outage(kind):
    """Has the broker fail (`cut`, `restart`, `kill`); returns when it is there again."""
    host, port = os.environ["CONTROL"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=CASE_MAX) as control:
        control.sendall(kind.encode() + b"\n")
        equal(control.makefile().readline(), "over\n", kind)
