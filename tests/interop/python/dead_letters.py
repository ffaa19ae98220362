"""Rejected messages and where they go, as a client sees it."""

import time

import pika

from harness import case, consume_until, equal, expect_channel_close, own_exchange, own_queue, unique


def dying_queue(channel, exchange, key=None):
    """Declares a queue with a dead-letter exchange, and perhaps a key."""
    arguments = {"x-dead-letter-exchange": exchange}
    if key is not None:
        arguments["x-dead-letter-routing-key"] = key
    return own_queue(channel, arguments=arguments)


def reject_next(connection, channel, queue):
    """Consumes one message and rejects it."""
    tag, ((method, _, _), *_) = consume_until(connection, channel, queue, 1)
    channel.basic_cancel(tag)
    channel.basic_reject(method.delivery_tag, requeue=False)


def receive(connection, channel, queue):
    """Consumes one message: how it was delivered, its properties, its body."""
    tag, (delivery, *_) = consume_until(connection, channel, queue, 1, auto_ack=True)
    channel.basic_cancel(tag)
    return delivery


@case
def x_death_tells_what_happened(connection):
    channel = connection.channel()
    dead = own_queue(channel)
    work = dying_queue(channel, "", dead)
    sent = pika.BasicProperties(headers={"mine": 5}, expiration="600000", message_id="id", delivery_mode=2)
    before = int(time.time())
    channel.basic_publish("", work, b"body", sent)
    reject_next(connection, channel, work)
    method, properties, body = receive(connection, channel, dead)
    equal((method.exchange, method.routing_key, body), ("", dead, b"body"))
    equal((properties.expiration, properties.message_id, properties.delivery_mode), (None, "id", 2))
    headers = dict(properties.headers)
    (death,) = headers.pop("x-death")
    died = death.pop("time").timestamp()
    assert before - 1 <= died <= time.time() + 1, f"it died at {died}"
    equal(death, {
        "original-expiration": "600000", "count": 1, "reason": "rejected", "queue": work, "exchange": "",
        "routing-keys": [work],
    })
    equal(headers, {
        "mine": 5,
        "x-first-death-exchange": "", "x-first-death-queue": work, "x-first-death-reason": "rejected",
        "x-last-death-exchange": "", "x-last-death-queue": work, "x-last-death-reason": "rejected",
    })


@case
def retries_are_counted(connection):
    channel = connection.channel()
    exchange = own_exchange(channel, "fanout")
    work = dying_queue(channel, exchange)
    retry = dying_queue(channel, "", work)
    channel.queue_bind(retry, exchange)
    channel.basic_publish("", work, b"again")
    for tries in range(1, 4):
        reject_next(connection, channel, work)
        reject_next(connection, channel, retry)
        tag, ((method, properties, _), *_) = consume_until(connection, channel, work, 1)
        channel.basic_cancel(tag)
        channel.basic_nack(method.delivery_tag, requeue=True)
        deaths = [(death["queue"], death["count"]) for death in properties.headers["x-death"]]
        equal(deaths, [(retry, tries), (work, tries)])
        equal(properties.headers["x-first-death-queue"], work)
        equal(properties.headers["x-last-death-exchange"], exchange)


@case
def order_is_that_of_the_rejections(connection):
    channel = connection.channel()
    dead = own_queue(channel)
    work = dying_queue(channel, "", dead)
    for number in range(20):
        channel.basic_publish("", work, b"%d" % number)
    _, deliveries = consume_until(connection, channel, work, 20)
    tags = [method.delivery_tag for method, _, _ in deliveries]
    channel.basic_nack(tags[4], requeue=False)
    channel.basic_nack(tags[-1], multiple=True, requeue=False)
    _, dead_letters = consume_until(connection, channel, dead, 20, auto_ack=True)
    order = [int(body) for _, _, body in dead_letters]
    equal(order, [4] + [number for number in range(20) if number != 4])


#: Levels of NServiceBus's delays: one for each bit of the seconds.
DELAY_LEVELS = 28


def delay_topology(channel, prefix):
    """Declares what NServiceBus does for its delays: an exchange and a queue a level, the highest bit first."""
    levels = [f"{prefix}.level-{level:02}" for level in range(DELAY_LEVELS)]
    below = [f"{prefix}.delivery", *levels]
    for name in below:
        channel.exchange_declare(name, "topic", durable=True)
    for level, name in enumerate(levels):
        channel.queue_declare(name, durable=True, arguments={
            "x-queue-type": "quorum", "x-dead-letter-strategy": "at-least-once", "x-overflow": "reject-publish",
            "x-message-ttl": 1000 << level, "x-dead-letter-exchange": below[level],
        })
        higher = "*." * (DELAY_LEVELS - 1 - level)
        channel.queue_bind(name, name, f"{higher}1.#")
        channel.exchange_bind(below[level], name, f"{higher}0.#")
    return levels, below


@case
def delays_of_nservicebus(connection):
    channel = connection.channel()
    prefix, endpoint = unique("nsb"), own_queue(channel)
    levels, exchanges = delay_topology(channel, prefix)
    try:
        address = own_exchange(channel, "fanout")
        channel.queue_bind(endpoint, address)
        channel.exchange_bind(address, exchanges[0], f"#.{address}")
        channel.confirm_delivery()
        sent_at = time.monotonic()
        for seconds in (3, 2, 0):
            bits = ".".join(f"{seconds:0{DELAY_LEVELS}b}")
            # It begins at the highest bit that is set.
            first = levels[max(seconds.bit_length() - 1, 0)]
            properties = pika.BasicProperties(delivery_mode=2, headers={"delay": seconds})
            channel.basic_publish(first, f"{bits}.{address}", b"late", properties, mandatory=True)
        _, came = consume_until(connection, channel, endpoint, 3, auto_ack=True)
        equal([properties.headers["delay"] for _, properties, _ in came], [0, 2, 3], "the order")
        assert time.monotonic() - sent_at >= 3, "the last one is too early"
    finally:
        other = connection.channel()
        for name in levels:
            other.queue_delete(name)
        for name in exchanges:
            other.exchange_delete(name)


@case
def headers_route_dead_letters(connection):
    channel = connection.channel()
    exchange = own_exchange(channel, "headers")
    first, second = (dying_queue(channel, exchange) for _ in range(2))
    for_first = own_queue(channel)
    arguments = {"x-match": "all-with-x", "x-first-death-queue": first, "x-first-death-reason": "rejected"}
    channel.queue_bind(for_first, exchange, "", arguments=arguments)
    for work in (second, first):
        channel.basic_publish("", work, work.encode())
        reject_next(connection, channel, work)
    _, _, body = receive(connection, channel, for_first)
    equal(body, first.encode())


@case
def arguments_are_checked(connection):
    key, exchange = "x-dead-letter-routing-key", "x-dead-letter-exchange"
    queue = unique("refused")

    def declare(arguments):
        return lambda channel: channel.queue_declare(queue, exclusive=True, arguments=arguments)

    where = f"queue '{queue}' in vhost '/'"
    expect_channel_close(
        connection, 406,
        f"PRECONDITION_FAILED - invalid arg '{key}' for {where}: routing_key_but_no_dlx_defined",
        declare({key: "k"}),
    )
    expect_channel_close(
        connection, 406,
        f"PRECONDITION_FAILED - invalid type 'signedint' for arg '{exchange}' in {where}",
        declare({exchange: 5}),
    )
    expect_channel_close(
        connection, 406,
        f"PRECONDITION_FAILED - invalid arg '{key}' for {where}: {{unacceptable_type,bool}}",
        declare({exchange: "x", key: True}),
    )
