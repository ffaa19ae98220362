"""Publish, consume, get, acknowledge, return, confirm."""

import datetime
import decimal

import pika
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from harness import (
    await_that, case, connect, consume_until, counts, drain, equal, own_exchange, own_queue, unique,
)


def filled_queue(channel, *bodies, **options):
    queue = own_queue(channel, **options)
    channel.confirm_delivery()
    for body in bodies:
        channel.basic_publish("", queue, body)
    return queue


@case
def all_properties_come_back(connection):
    channel = connection.channel()
    queue = own_queue(channel)
    sent = pika.BasicProperties(
        content_type="text/plain", content_encoding="utf-8", delivery_mode=2, priority=3,
        correlation_id="correlation", reply_to="reply", expiration="600000", message_id="message",
        timestamp=1_700_000_000, type="type", user_id="guest", app_id="app", cluster_id="cluster",
        headers={
            "text": "ä", "bytes": b"\x00\xff", "true": True, "false": False, "small": 1, "negative": -5,
            "large": 2**62, "decimal": decimal.Decimal("1.25"),
            "time": datetime.datetime(2024, 5, 6, 7, 8, 9, tzinfo=datetime.timezone.utc),
            "list": [1, "two", [3], {"four": 4}], "table": {"inner": {"deep": "x"}}, "nothing": None,
        },
    )
    channel.basic_publish("", queue, b"body", sent)
    method, properties, body = channel.basic_get(queue, auto_ack=True)
    equal(body, b"body")
    equal((method.exchange, method.routing_key, method.redelivered), ("", queue, False))
    for name, value in vars(sent).items():
        found = getattr(properties, name)
        if name == "headers":
            found, value = dict(found), dict(value)
            # pika gives text where bytes are valid UTF-8, and times without a zone.
            found["time"] = found["time"].replace(tzinfo=datetime.timezone.utc)
        equal(found, value, name)


@case
def no_properties_at_all(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"bare")
    _, properties, body = channel.basic_get(queue, auto_ack=True)
    equal((body, properties.headers, properties.content_type), (b"bare", None, None))


@case
def empty_body(connection):
    channel = connection.channel()
    equal(drain(channel, filled_queue(channel, b"", b"")), [b"", b""])


@case
def one_mebibyte(connection):
    body = bytes(range(256)) * 4096
    channel = connection.channel()
    queue = filled_queue(channel, body)
    _, deliveries = consume_until(connection, channel, queue, 1)
    assert deliveries[0][2] == body, "the body came back changed"


@case
def get_from_an_empty_queue(connection):
    channel = connection.channel()
    equal(channel.basic_get(own_queue(channel)), (None, None, None))


@case
def get_counts_what_is_left(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1", b"2", b"3")
    left = [channel.basic_get(queue, auto_ack=True)[0].message_count for _ in range(3)]
    equal(left, [2, 1, 0])


@case
def first_in_first_out(connection):
    channel = connection.channel()
    bodies = [str(number).encode() for number in range(1000)]
    queue = filled_queue(channel, *bodies)
    _, deliveries = consume_until(connection, channel, queue, len(bodies), auto_ack=True)
    equal([body for _, _, body in deliveries], bodies)


@case
def acknowledged_is_gone(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1", b"2")
    channel.basic_ack(channel.basic_get(queue)[0].delivery_tag)
    channel.close()
    equal(drain(connection.channel(), queue), [b"2"])


@case
def acknowledge_multiple(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1", b"2", b"3")
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(3)]
    equal(tags, [1, 2, 3])
    channel.basic_ack(tags[1], multiple=True)
    channel.close()
    equal(drain(connection.channel(), queue), [b"3"])


@case
def acknowledge_all_with_zero(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1", b"2")
    channel.basic_ack(0, multiple=True)
    channel.basic_get(queue)
    channel.basic_get(queue)
    channel.basic_ack(0, multiple=True)
    channel.close()
    equal(drain(connection.channel(), queue), [])


@case
def nack_requeues(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1")
    channel.basic_nack(channel.basic_get(queue)[0].delivery_tag, requeue=True)
    method, _, body = channel.basic_get(queue)
    equal((method.redelivered, body), (True, b"1"))


@case
def nack_multiple_keeps_the_order(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1", b"2", b"3", b"4")
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(3)]
    channel.basic_nack(tags[1], multiple=True, requeue=True)
    equal(drain(channel, queue), [b"1", b"2", b"4"])


@case
def reject_requeues_to_the_old_place(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1", b"2", b"3")
    tags = [channel.basic_get(queue)[0].delivery_tag for _ in range(2)]
    channel.basic_reject(tags[0], requeue=True)
    method, _, body = channel.basic_get(queue)
    equal((method.redelivered, body), (True, b"1"))
    equal(drain(channel, queue), [b"3"])


@case
def rejected_without_requeue_is_gone(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1", b"2")
    channel.basic_reject(channel.basic_get(queue)[0].delivery_tag, requeue=False)
    channel.close()
    equal(drain(connection.channel(), queue), [b"2"])


@case
def recover_brings_all_back(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1", b"2")
    for _ in range(2):
        equal(channel.basic_get(queue)[0].redelivered, False)
    channel.basic_recover(requeue=True)
    again = [channel.basic_get(queue) for _ in range(2)]
    equal([(method.redelivered, body) for method, _, body in again], [(True, b"1"), (True, b"2")])


@case
def a_closed_channel_gives_back(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1", b"2", b"3")
    consume_until(connection, channel, queue, 3)
    channel.close()
    channel = connection.channel()
    again = [channel.basic_get(queue) for _ in range(3)]
    equal([(method.redelivered, body) for method, _, body in again], [(True, b"1"), (True, b"2"), (True, b"3")])


@case
def a_closed_connection_gives_back(connection):
    name = unique("given-back")
    channel = connection.channel()
    channel.confirm_delivery()
    channel.queue_declare(name, durable=True)
    try:
        channel.basic_publish("", name, b"1")
        with connect() as other:
            consume_until(other, other.channel(), name, 1)
            equal(counts(channel, name), (0, 1))
        method, _, body = channel.basic_get(name, auto_ack=True)
        equal((method.redelivered, body), (True, b"1"))
    finally:
        connection.channel().queue_delete(name)


@case
def confirmed_though_unroutable(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    # pika raises NackError or UnroutableError where the broker does not acknowledge.
    channel.basic_publish("amq.direct", unique("nobody"), b"x")


@case
def mandatory_is_returned_before_its_confirm(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    key = unique("nobody")
    try:
        channel.basic_publish(
            "amq.direct", key, b"x" * 300_000, pika.BasicProperties(app_id="me", headers={"h": 1}), mandatory=True
        )
    except UnroutableError as error:
        # pika collects the returns that came before the acknowledgement.
        (returned,) = error.messages
        method = returned.method
        equal((method.reply_code, method.reply_text), (312, "NO_ROUTE"))
        equal((method.exchange, method.routing_key), ("amq.direct", key))
        equal((returned.properties.app_id, returned.properties.headers), ("me", {"h": 1}))
        equal(len(returned.body), 300_000)
    else:
        raise AssertionError("nothing was returned")


@case
def mandatory_and_routed_is_not_returned(connection):
    channel = connection.channel()
    queue = own_queue(channel)
    channel.confirm_delivery()
    channel.basic_publish("", queue, b"x", mandatory=True)
    equal(drain(channel, queue), [b"x"])


@case
def mandatory_is_returned_without_confirms(connection):
    channel = connection.channel()
    returned = []
    channel.add_on_return_callback(lambda _, method, properties, body: returned.append((method.reply_code, body)))
    channel.basic_publish("", unique("nobody"), b"x", mandatory=True)
    await_that(connection, lambda: returned, "basic.return")
    equal(returned, [(312, b"x")])


@case
def prefetch_holds_the_rest_back(connection):
    channel = connection.channel()
    queue = filled_queue(channel, *(str(number).encode() for number in range(10)))
    channel.basic_qos(prefetch_count=3)
    _, deliveries = consume_until(connection, channel, queue, 3)
    # The broker answers in order: had it sent a fourth, it would have come before this answer.
    equal(counts(channel, queue), (7, 1))
    connection.process_data_events(time_limit=0)
    equal(len(deliveries), 3)
    channel.basic_ack(deliveries[1][0].delivery_tag, multiple=True)
    await_that(connection, lambda: len(deliveries) == 5, "two more deliveries")
    equal(counts(channel, queue), (5, 1))


@case
def prefetch_is_for_each_consumer(connection):
    channel = connection.channel()
    queue = filled_queue(channel, *(b"x" for _ in range(10)))
    channel.basic_qos(prefetch_count=2)
    consume_until(connection, channel, queue, 2)
    consume_until(connection, channel, queue, 2)
    equal(counts(channel, queue), (6, 2))


@case
def prefetch_does_not_hold_automatic_acknowledgement(connection):
    channel = connection.channel()
    queue = filled_queue(channel, *(b"x" for _ in range(10)))
    channel.basic_qos(prefetch_count=1)
    consume_until(connection, channel, queue, 10, auto_ack=True)


@case
def consumers_take_turns(connection):
    channel = connection.channel()
    queue = own_queue(channel)
    taken = ([], [])
    for place in taken:
        channel.basic_consume(queue, lambda _, method, __, body, place=place: place.append(body), auto_ack=True)
    for number in range(10):
        channel.basic_publish("", queue, str(number).encode())
    await_that(connection, lambda: len(taken[0]) + len(taken[1]) == 10, "ten deliveries")
    equal((len(taken[0]), len(taken[1])), (5, 5))


@case
def cancelled_gets_no_more(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queue = own_queue(channel)
    channel.basic_publish("", queue, b"1")
    tag, deliveries = consume_until(connection, channel, queue, 1, auto_ack=True)
    channel.basic_cancel(tag)
    channel.basic_publish("", queue, b"2")
    equal(counts(channel, queue), (1, 0))
    equal(len(deliveries), 1)


@case
def cancelled_may_still_acknowledge(connection):
    channel = connection.channel()
    queue = filled_queue(channel, b"1")
    tags = []
    tag = channel.basic_consume(queue, lambda _, method, *__: tags.append(method.delivery_tag))
    await_that(connection, lambda: tags, "a delivery")
    channel.basic_cancel(tag)
    channel.basic_publish("", queue, b"2")
    channel.close()
    equal(sorted(drain(connection.channel(), queue)), [b"1", b"2"])


@case
def delivery_names_exchange_key_and_consumer(connection):
    channel = connection.channel()
    queue = own_queue(channel)
    exchange = own_exchange(channel, "topic")
    channel.queue_bind(queue, exchange, "a.#")
    channel.basic_publish(exchange, "a.b.c", b"x")
    tag, deliveries = consume_until(connection, channel, queue, 1, consumer_tag="mine")
    method = deliveries[0][0]
    equal(tag, "mine")
    equal((method.exchange, method.routing_key, method.consumer_tag, method.delivery_tag, method.redelivered),
          (exchange, "a.b.c", "mine", 1, False))


@case
def exclusive_consumer_keeps_others_out(connection):
    channel = connection.channel()
    queue = own_queue(channel)
    channel.basic_consume(queue, lambda *_: None, exclusive=True)
    other = connection.channel()
    try:
        other.basic_consume(queue, lambda *_: None)
    except ChannelClosedByBroker as closed:
        equal((closed.reply_code, closed.reply_text),
              (403, f"ACCESS_REFUSED - queue '{queue}' in vhost '/' in exclusive use"))
    else:
        raise AssertionError("a second consumer was accepted")
