"""What the cases of RabbitMQ's own client of AMQP 1.0 share."""

import contextlib
import itertools
import os
from urllib.parse import urlparse

from rabbitmq_amqp_python_client import (
    AddressHelper, AMQPMessagingHandler, ClassicQueueSpecification, Environment, symbol,
)

from harness import unique


def uri(vhost="/"):
    url = urlparse(os.environ["AMQP_URL"])
    return f"amqp://{url.username}:{url.password}@{url.hostname}:{url.port}{vhost}"


@contextlib.contextmanager
def environment(**options):
    """An environment, whose connections end with it."""
    made = Environment(uri=uri(), **options)
    try:
        yield made
    finally:
        made.close()


def dial(made):
    connection = made.connection()
    connection.dial()
    return connection


def queue_of(management, kind=ClassicQueueSpecification, **options):
    """A queue, and its address."""
    name = unique("amqp10")
    management.declare_queue(kind(name=name, **options))
    return name, AddressHelper.queue_address(name)


class Enough(Exception):
    """As many came as were wanted."""


class Collector(AMQPMessagingHandler):
    """Does with each message in turn what the next of `settling` says; the last says it for the rest."""

    def __init__(self, wanted, *settling):
        super().__init__()
        self.came = []
        self._wanted = wanted
        self._settling = itertools.chain(settling, itertools.repeat(settling[-1] if settling else None))

    def on_amqp_message(self, event):
        self.came.append(event.message)
        settle = next(self._settling)
        if settle is not None:
            settle(self.delivery_context, event)
        if len(self.came) == self._wanted:
            raise Enough


def accept(context, event):
    context.accept(event)


def discard(context, event):
    context.discard(event)


def requeue(context, event):
    context.requeue(event)


def requeue_with(**annotations):
    named = {symbol("x-opt-" + name): value for name, value in annotations.items()}
    return lambda context, event: context.requeue_with_annotations(event, named)


def discard_with(**annotations):
    named = {symbol("x-opt-" + name): value for name, value in annotations.items()}
    return lambda context, event: context.discard_with_annotations(event, named)


def consume(made, address, wanted, *settling, options=None, credit=None):
    """Consumes by a connection of its own until as many have come, and gives the messages."""
    connection = dial(made)
    collector = Collector(wanted, *settling)
    consumer = connection.consumer(address, collector, options, credit)
    with contextlib.suppress(Enough):
        consumer.run()
    consumer.close()
    connection.close()
    return collector.came


def bodies(messages):
    return [bytes(message.body) for message in messages]
