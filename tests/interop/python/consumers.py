"""How much a consumer has at once, changed while it runs, and for how long."""

from harness import await_that, case, connect, counts, equal, expect_channel_close, unique


class Worker:
    """A consumer that acknowledges nothing by itself."""

    def __init__(self, connection, queue, channel=None, **arguments):
        self.connection, self.channel = connection, channel or connection.channel()
        self.deliveries = []
        self.tag = self.channel.basic_consume(queue, self.on_delivery, arguments=arguments)

    def on_delivery(self, _channel, method, _properties, body):
        self.deliveries.append((method.delivery_tag, body))

    def await_deliveries(self, wanted):
        await_that(self.connection, lambda: len(self.deliveries) >= wanted, f"{wanted} deliveries")
        # What comes in the same go would be too much.
        self.connection.process_data_events(time_limit=0)
        equal(len(self.deliveries), wanted, "the deliveries")
        return [body for _, body in self.deliveries]


def declared(connection, kind, count, **arguments):
    """A durable queue with so many messages. It goes with the case."""
    queue = unique(kind)
    channel = connection.channel()
    arguments = {"x-queue-type": kind, "x-expires": 600_000, **arguments}
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.confirm_delivery()
    for number in range(count):
        channel.basic_publish("", queue, b"%d" % number)
    return queue


@case
def the_limit_of_a_channel_changes_for_consumers_that_run(connection):
    for kind in ("classic", "quorum"):
        queue = declared(connection, kind, 20)
        channel = connection.channel()
        channel.basic_qos(prefetch_count=2, global_qos=True)
        worker = Worker(connection, queue, channel)
        worker.await_deliveries(2)
        channel.basic_qos(prefetch_count=5, global_qos=True)
        worker.await_deliveries(5)
        # Three are settled, and two are the new limit already.
        channel.basic_qos(prefetch_count=2, global_qos=True)
        channel.basic_ack(3, multiple=True)
        equal(counts(channel, queue)[0], 15, "what is ready")
        worker.await_deliveries(5)
        channel.basic_qos(prefetch_count=0, global_qos=True)
        worker.await_deliveries(20)
        connection.channel().queue_delete(queue)


@case
def the_limit_of_a_consumer_is_that_of_when_it_began(connection):
    queue = declared(connection, "classic", 20)
    channel = connection.channel()
    channel.basic_qos(prefetch_count=2)
    first = Worker(connection, queue, channel)
    first.await_deliveries(2)
    channel.basic_qos(prefetch_count=3)
    second = Worker(connection, queue, channel)
    second.await_deliveries(3)
    first.await_deliveries(2)
    channel.queue_delete(queue)


@case
def a_delivery_that_takes_too_long_is_for_others_and_the_channel_stays(connection):
    queue = declared(connection, "quorum", 1, **{"x-consumer-timeout": 300})
    with connect() as other:
        slow = Worker(connection, queue)
        slow.await_deliveries(1)
        quick = Worker(other, queue)
        equal(quick.await_deliveries(1), [b"0"])
        quick.channel.basic_ack(quick.deliveries[0][0])
        # Late, but no error; and then it gets the next.
        slow.channel.basic_ack(slow.deliveries[0][0])
        quick.channel.basic_cancel(quick.tag)
        publisher = connection.channel()
        publisher.basic_publish("", queue, b"next")
        equal(slow.await_deliveries(2), [b"0", b"next"])
        slow.channel.basic_ack(slow.deliveries[1][0])
        equal(counts(slow.channel, queue), (0, 1))
        slow.channel.queue_delete(queue)


@case
def a_consumer_says_how_long_it_takes(connection):
    queue = declared(connection, "quorum", 1)
    worker = Worker(connection, queue, **{"x-consumer-timeout": 300})
    worker.await_deliveries(1)
    other = Worker(connection, queue)
    equal(other.await_deliveries(1), [b"0"])
    text = (f"PRECONDITION_FAILED - invalid arg 'x-consumer-timeout' for queue '{queue}' in vhost '/': "
            "{value_negative,-1}")
    expect_channel_close(
        connection, 406, text,
        lambda channel: channel.basic_consume(
            queue, lambda *_: None, arguments={"x-consumer-timeout": -1}
        ),
    )
    other.channel.queue_delete(queue)
