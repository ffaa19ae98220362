"""The life of queues: declare, bind, purge, delete, exclusive, auto-delete."""

from pika.exceptions import ChannelClosedByBroker

from harness import (
    await_that, case, connect, consume_until, counts, drain, equal, own_exchange, own_queue, unique,
)


def is_there(connection, queue):
    channel = connection.channel()
    try:
        channel.queue_declare(queue, passive=True)
    except ChannelClosedByBroker as closed:
        equal(closed.reply_code, 404)
        return False
    channel.close()
    return True


@case
def named_by_the_client(connection):
    name = unique("named")
    declared = connection.channel().queue_declare(name, exclusive=True).method
    equal((declared.queue, declared.message_count, declared.consumer_count), (name, 0, 0))


@case
def named_by_the_server(connection):
    channel = connection.channel()
    first, second = own_queue(channel), own_queue(channel)
    assert first.startswith("amq.gen-") and second.startswith("amq.gen-") and first != second, (first, second)


@case
def empty_name_is_the_last_declared(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    own_queue(channel)
    last = own_queue(channel)
    exchange = own_exchange(channel, "direct")
    channel.queue_bind("", exchange, "key")
    channel.basic_publish(exchange, "key", b"x")
    equal(counts(channel, last), (1, 0))
    method, _, body = channel.basic_get("", auto_ack=True)
    equal((method.routing_key, body), ("key", b"x"))
    equal(channel.queue_purge("").method.message_count, 0)


@case
def bind_with_empty_queue_and_key_binds_the_queue_name(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queue = own_queue(channel)
    exchange = own_exchange(channel, "direct")
    channel.queue_bind("", exchange, "")
    channel.basic_publish(exchange, queue, b"x")
    equal(drain(channel, queue), [b"x"])


@case
def declared_again_counts(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name = unique("again")
    channel.queue_declare(name, exclusive=True)
    for _ in range(3):
        channel.basic_publish("", name, b"x")
    consume_until(connection, connection.channel(), name, 3)
    channel.basic_publish("", name, b"y")
    declared = channel.queue_declare(name, exclusive=True).method
    equal(declared.consumer_count, 1)


@case
def ready_counts_leave_out_unacknowledged(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queue = own_queue(channel)
    for _ in range(3):
        channel.basic_publish("", queue, b"x")
    channel.basic_get(queue)
    equal(counts(channel, queue), (2, 0))
    equal(channel.queue_purge(queue).method.message_count, 2)
    equal(counts(channel, queue), (0, 0))


@case
def delete_counts_what_was_ready(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queue = own_queue(channel)
    for _ in range(4):
        channel.basic_publish("", queue, b"x")
    equal(channel.queue_delete(queue).method.message_count, 4)
    assert not is_there(connection, queue)


@case
def delete_of_what_is_not_there(connection):
    equal(connection.channel().queue_delete(unique("absent")).method.message_count, 0)


@case
def durable_queue_outlives_its_connection(connection):
    name = unique("durable")
    with connect() as other:
        other.channel().queue_declare(name, durable=True)
    assert is_there(connection, name)
    connection.channel().queue_delete(name)


@case
def exclusive_queue_goes_with_its_connection(connection):
    name = unique("exclusive")
    with connect() as other:
        other.channel().queue_declare(name, exclusive=True, durable=True)
    assert not is_there(connection, name)


@case
def exclusive_queue_outlives_its_channel(connection):
    channel = connection.channel()
    queue = own_queue(channel)
    channel.close()
    assert is_there(connection, queue)


@case
def auto_delete_goes_with_the_last_consumer(connection):
    channel = connection.channel()
    name = unique("auto-delete")
    channel.queue_declare(name, exclusive=True, auto_delete=True)
    tags = [channel.basic_consume(name, lambda *_: None) for _ in range(2)]
    channel.basic_cancel(tags[0])
    assert is_there(connection, name)
    channel.basic_cancel(tags[1])
    assert not is_there(connection, name)


@case
def auto_delete_goes_with_the_consumers_channel(connection):
    channel = connection.channel()
    name = unique("auto-delete")
    channel.queue_declare(name, exclusive=True, auto_delete=True)
    channel.basic_consume(name, lambda *_: None)
    channel.close()
    assert not is_there(connection, name)


@case
def auto_delete_stays_while_never_consumed(connection):
    channel = connection.channel()
    name = unique("auto-delete")
    channel.queue_declare(name, exclusive=True, auto_delete=True)
    channel.basic_get(name)
    channel.close()
    assert is_there(connection, name)


@case
def delete_cancels_consumers(connection):
    channel = connection.channel()
    queue = own_queue(channel)
    cancelled = []
    channel.add_on_cancel_callback(lambda frame: cancelled.append(frame.method.consumer_tag))
    tag = channel.basic_consume(queue, lambda *_: None)
    connection.channel().queue_delete(queue)
    await_that(connection, lambda: cancelled, "the broker's basic.cancel")
    equal(cancelled, [tag])


@case
def deleted_queue_loses_its_bindings(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name = unique("rebound")
    exchange = own_exchange(channel, "direct")
    keeper = own_queue(channel)
    channel.queue_bind(keeper, exchange, "other")
    channel.queue_declare(name, exclusive=True)
    channel.queue_bind(name, exchange, "key")
    channel.queue_delete(name)
    channel.queue_declare(name, exclusive=True)
    channel.basic_publish(exchange, "key", b"x")
    equal(drain(channel, name), [])


@case
def unbind_of_what_is_not_there(connection):
    channel = connection.channel()
    queue = own_queue(channel)
    channel.queue_unbind(queue, "amq.direct", "never bound")
    channel.queue_unbind(unique("absent"), "amq.direct", "key")
    channel.queue_unbind(queue, unique("absent"), "key")


@case
def same_arguments_are_equivalent(connection):
    channel = connection.channel()
    name = unique("same")
    for _ in range(2):
        channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 5, "x-overflow": "reject-publish"})
