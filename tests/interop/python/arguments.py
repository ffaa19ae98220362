"""What queues do as their arguments say: age, length, priorities, delivery limits, a single active consumer."""

import time

import pika
from pika.exceptions import NackError

from harness import (
    await_that, case, consume_until, counts, drain, equal, expect_channel_close, own_queue, unique,
)

#: How often to look at what changes by itself, in seconds.
LOOK_EVERY = 0.02


def send(channel, queue, body, **properties):
    """Publishes a persistent message; with confirms says whether it was accepted."""
    properties.setdefault("delivery_mode", 2)
    try:
        channel.basic_publish("", queue, str(body).encode(), pika.BasicProperties(**properties))
    except NackError:
        return False
    return True


def confirming(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def get(channel, queue):
    """Gets the next message, which comes soon: how it was delivered, its properties, its body."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        method, properties, body = channel.basic_get(queue)
        if method is not None:
            return method, properties, body
        time.sleep(LOOK_EVERY)
    raise AssertionError(f"nothing comes to {queue}")


def await_count(connection, channel, queue, wanted):
    """Waits until so many messages are ready."""
    deadline = time.monotonic() + 30
    while counts(channel, queue)[0] != wanted:
        assert time.monotonic() < deadline, f"{counts(channel, queue)[0]} messages, not {wanted}"
        connection.sleep(LOOK_EVERY)


def to_dead(dead):
    return {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}


def text(bodies):
    return b" ".join(bodies).decode()


@case
def messages_expire_into_the_dead_letter_exchange(connection):
    channel = confirming(connection)
    dead = own_queue(channel)
    queue = own_queue(channel, arguments={"x-message-ttl": 50, **to_dead(dead)})
    send(channel, queue, "old")
    send(channel, queue, "own", expiration="20")
    await_count(connection, channel, dead, 2)
    originals = []
    for wanted in (b"old", b"own"):
        _, properties, body = get(channel, dead)
        equal(body, wanted)
        (death,) = properties.headers["x-death"]
        equal((death["reason"], death["count"], properties.expiration), ("expired", 1, None))
        originals.append(death.get("original-expiration"))
    equal(originals, [None, "20"])


@case
def without_time_to_live_a_message_is_for_who_waits(connection):
    channel = confirming(connection)
    queue = own_queue(channel, arguments={"x-message-ttl": 0})
    send(channel, queue, "nobody")
    await_count(connection, channel, queue, 0)
    got = []
    channel.basic_consume(queue, lambda *delivery: got.append(delivery[3]), auto_ack=True)
    send(channel, queue, "somebody")
    await_that(connection, lambda: got, "the message")
    equal(got, [b"somebody"])


@case
def what_comes_back_too_late_expires(connection):
    channel = confirming(connection)
    queue = own_queue(channel, arguments={"x-message-ttl": 100})
    send(channel, queue, 1)
    method, _, _ = get(channel, queue)
    connection.sleep(0.2)
    channel.basic_nack(method.delivery_tag, requeue=True)
    await_count(connection, channel, queue, 0)


@case
def an_unused_queue_goes(connection):
    channel = connection.channel()
    queue = unique("expires")
    channel.queue_declare(queue, arguments={"x-expires": 100})
    connection.sleep(1)
    text = f"NOT_FOUND - no queue '{queue}' in vhost '/'"
    expect_channel_close(connection, 404, text, lambda ch: ch.queue_declare(queue, passive=True))


@case
def too_many_messages(connection):
    channel = confirming(connection)
    dead = own_queue(channel)
    limit = {"x-max-length": 1}
    for overflow, taken, left, letters in (
        (None, [True] * 3, "3", "1 2"),
        ("drop-head", [True] * 3, "3", "1 2"),
        ("reject-publish", [True, False, False], "1", ""),
        ("reject-publish-dlx", [True, False, False], "1", "2 3"),
    ):
        arguments = {**limit, **to_dead(dead), **({"x-overflow": overflow} if overflow else {})}
        queue = own_queue(channel, arguments=arguments)
        equal([send(channel, queue, body) for body in (1, 2, 3)], taken, overflow)
        equal(text(drain(channel, queue)), left, overflow)
        await_count(connection, channel, dead, len(letters.split()))
        equal(text(drain(channel, dead)), letters, overflow)
        equal(send(channel, queue, 4), True, "there is room again")


@case
def bytes_are_those_of_bodies(connection):
    channel = confirming(connection)
    body = lambda letter: letter * 80
    queue = own_queue(channel, arguments={"x-max-length-bytes": 160})
    equal([send(channel, queue, body(letter)) for letter in "abc"], [True] * 3)
    equal([bytes(found[:1]) for found in drain(channel, queue)], [b"b", b"c"])
    queue = own_queue(channel, arguments={"x-max-length-bytes": 100, "x-overflow": "reject-publish"})
    equal([send(channel, queue, body(letter)) for letter in "ab"], [True, False])


@case
def what_is_unacknowledged_does_not_count(connection):
    channel = confirming(connection)
    for overflow, left in (("reject-publish", "1 2"), ("drop-head", "2")):
        queue = own_queue(channel, arguments={"x-max-length": 1, "x-overflow": overflow})
        send(channel, queue, 1)
        method, _, _ = get(channel, queue)
        equal(send(channel, queue, 2), True)
        channel.basic_nack(method.delivery_tag, requeue=True)
        await_count(connection, channel, queue, len(left.split()))
        equal(text(drain(channel, queue)), left, overflow)


@case
def higher_priorities_come_first(connection):
    channel = confirming(connection)
    queue = own_queue(channel, arguments={"x-max-priority": 5})
    for body, priority in (("none", None), ("0", 0), ("5", 5), ("10", 10), ("none", None)):
        send(channel, queue, body, priority=priority)
    equal(text(drain(channel, queue)), "5 10 none 0 none")
    for overflow, left in (("drop-head", "2 1 1 1"), ("reject-publish", "3 2 1 1")):
        arguments = {"x-max-priority": 3, "x-max-length": 4, "x-overflow": overflow}
        queue = own_queue(channel, arguments=arguments)
        for priority in (1, 2, 3) * 3:
            send(channel, queue, priority, priority=priority)
        equal(text(drain(channel, queue)), left, overflow)


def with_quorum_queue(connection, arguments, action):
    """Has the action look at a quorum queue, which is deleted afterwards."""
    channel = confirming(connection)
    queue = unique("quorum")
    channel.queue_declare(queue, durable=True, arguments={"x-queue-type": "quorum", **arguments})
    try:
        action(channel, queue)
    finally:
        connection.channel().queue_delete(queue)


@case
def quorum_queues_have_priorities_and_return_in_order(connection):
    def action(channel, queue):
        for priority in (None, 1, 5, 9, 4, 200):
            send(channel, queue, priority, priority=priority)
        tags = [(get(channel, queue)) for _ in range(6)]
        equal(text([body for _, _, body in tags]), "200 9 5 None 4 1")
        for index in (3, 0, 5, 1, 2, 4):
            channel.basic_nack(tags[index][0].delivery_tag, requeue=True)
        send(channel, queue, "new", priority=31)
        await_count(connection, channel, queue, 7)
        equal(text(drain(channel, queue)), "None 200 1 9 5 4 new")
    with_quorum_queue(connection, {}, action)


@case
def quorum_queues_count_deliveries(connection):
    dead = own_queue(connection.channel())

    def action(channel, queue):
        send(channel, queue, "poison")
        told = []
        for refuse in (channel.basic_nack, channel.basic_reject, channel.basic_reject):
            method, properties, _ = get(channel, queue)
            told.append(properties.headers)
            refuse(method.delivery_tag, requeue=True)
        equal(told, [None, {"x-acquired-count": 1}, {"x-acquired-count": 2, "x-delivery-count": 1}])
        _, properties, body = get(channel, dead)
        equal((body, properties.headers["x-death"][0]["reason"]), (b"poison", "delivery_limit"))
    with_quorum_queue(connection, {"x-delivery-limit": 1, **to_dead(dead)}, action)


@case
def one_consumer_is_active(connection):
    channel = connection.channel()
    queue = own_queue(channel, arguments={"x-single-active-consumer": True})
    got = []
    tags = [
        channel.basic_consume(queue, lambda *delivery, name=name: got.append(name), auto_ack=True)
        for name in "ab"
    ]
    for _ in range(3):
        send(channel, queue, "m")
    await_that(connection, lambda: len(got) == 3, "three messages")
    channel.basic_cancel(tags[0])
    send(channel, queue, "m")
    await_that(connection, lambda: len(got) == 4, "one more message")
    equal("".join(got), "aaab")


@case
def letters_go_round_only_with_a_rejection(connection):
    channel = confirming(connection)
    queue = unique("cycle")
    channel.queue_declare(queue, exclusive=True, arguments={"x-message-ttl": 30, "x-dead-letter-exchange": ""})
    send(channel, queue, 1)
    await_count(connection, channel, queue, 0)
    names = [unique("round") for _ in range(3)]
    for index, name in enumerate(names):
        age = {} if index == 0 else {"x-message-ttl": 20}
        arguments = {**age, **to_dead(names[(index + 1) % 3])}
        channel.queue_declare(name, exclusive=True, arguments=arguments)
    send(channel, names[0], "round")
    for turn in range(3):
        method, properties, _ = get(channel, names[0])
        deaths = [(death["queue"], death["reason"], death["count"]) for death in (properties.headers or {}).get("x-death", [])]
        expected = [(names[2], "expired", turn), (names[1], "expired", turn), (names[0], "rejected", turn)]
        equal(deaths, expected if turn else [])
        channel.basic_reject(method.delivery_tag, requeue=False)


@case
def refused_arguments(connection):
    for arguments, why in (
        ({"x-message-ttl": -1}, "'x-message-ttl' for queue '{}' in vhost '/': {{value_negative,-1}}"),
        ({"x-expires": 0}, "'x-expires' for queue '{}' in vhost '/': {{value_zero,0}}"),
        ({"x-overflow": "foo"}, "'x-overflow' for queue '{}' in vhost '/': invalid_overflow"),
        ({"x-max-priority": 256}, "'x-max-priority' for queue '{}' in vhost '/': {{max_value_exceeded,256}}"),
        ({"x-delivery-limit": 3}, "'x-delivery-limit' for queue '{}' in vhost '/' of queue type rabbit_classic_queue"),
        (
            {"x-single-active-consumer": 1},
            "'x-single-active-consumer' for queue '{}' in vhost '/': {{unacceptable_type,signedint}}",
        ),
    ):
        queue = unique("refused")
        text = "PRECONDITION_FAILED - invalid arg " + why.format(queue)
        declare = lambda channel: channel.queue_declare(queue, durable=True, arguments=arguments)
        expect_channel_close(connection, 406, text, declare)
    queue = own_queue(connection.channel())
    text = "PRECONDITION_FAILED - invalid expiration 'soon': no_integer"
    publish = lambda channel: channel.basic_publish("", queue, b"", pika.BasicProperties(expiration="soon"))
    expect_channel_close(connection, 406, text, publish)
