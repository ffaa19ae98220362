"""AMQP 1.0: RabbitMQ's own client connects again by itself when the broker closes its connections."""

import contextlib
import logging
from datetime import timedelta

from rabbitmq_amqp_python_client import (
    ConnectionClosed, Delivery, Message, QuorumQueueSpecification, RecoveryConfiguration,
)

from harness import case_of_its_own, equal, outage
from rabbitmq import Collector, Enough, accept, bodies, consume, dial, environment, queue_of

# The client tells of each attempt at length.
logging.disable(logging.CRITICAL)


def recovering():
    """An environment whose connections are made again, after the shortest time that the client allows."""
    return environment(
        recovery_configuration=RecoveryConfiguration(
            active_recovery=True, back_off_reconnect_interval=timedelta(seconds=1), MaxReconnectAttempts=10,
        ),
    )


@case_of_its_own
def publishers_and_management_go_on():
    with recovering() as made:
        connection = dial(made)
        management = connection.management()
        name, address = queue_of(management, QuorumQueueSpecification)
        publisher = connection.publisher(address)
        for kind in ("restart", "restart"):
            equal(publisher.publish(Message(body=b"before", durable=True)).remote_state, Delivery.ACCEPTED)
            outage(kind)
            try:
                publisher.publish(Message(body=b"lost"))
            except ConnectionClosed as told:
                equal(told.condition, "amqp:connection:forced")
            else:
                raise AssertionError("published on a connection that is gone")
            equal(publisher.publish(Message(body=b"after", durable=True)).remote_state, Delivery.ACCEPTED)
        equal(management.queue_info(name).message_count, 4)
        equal(bodies(consume(made, address, 4, accept)), [b"before", b"after"] * 2)


@case_of_its_own
def a_consumer_goes_on():
    with recovering() as made:
        connection = dial(made)
        _, address = queue_of(connection.management(), QuorumQueueSpecification)
        publisher = connection.publisher(address)
        for body in (b"1", b"2"):
            publisher.publish(Message(body=body, durable=True))
        publisher.close()
        collector = Collector(1, accept)
        consuming = dial(made)
        consumer = consuming.consumer(address, collector, credit=1)
        with contextlib.suppress(Enough):
            consumer.run()
        outage("restart")
        with contextlib.suppress(Enough, ConnectionClosed):
            consumer.run()
        if len(collector.came) == 1:
            with contextlib.suppress(Enough):
                consumer.run()
        equal(bodies(collector.came)[-1], b"2")
