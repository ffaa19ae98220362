"""Direct reply-to: requests and replies without a queue for the replies."""

import asyncio

import aio_pika
import pika
from pika.exceptions import ChannelClosedByBroker

from harness import (
    URL, await_that, case, case_of_its_own, connect, equal, expect_channel_close, own_queue, unique,
)

REPLY_TO = "amq.rabbitmq.reply-to"


class Requester:
    """A channel that waits for replies."""

    def __init__(self, connection, channel=None):
        self.connection, self.channel = connection, channel or connection.channel()
        self.replies = []
        self.tag = self.channel.basic_consume(
            REPLY_TO, lambda _, *delivery: self.replies.append(delivery), auto_ack=True
        )

    def ask(self, queue, body=b"request", **properties):
        """Sends a request; gives the name that it carries for replies."""
        self.channel.basic_publish("", queue, body, pika.BasicProperties(reply_to=REPLY_TO, **properties))
        method = None
        while method is None:
            method, received, found = self.channel.basic_get(queue, auto_ack=True)
        equal(found, body)
        return received.reply_to

    def await_replies(self, wanted):
        await_that(self.connection, lambda: len(self.replies) >= wanted, f"{wanted} replies")
        return [body for _, _, body in self.replies]


@case
def a_reply_comes_to_the_channel_that_asked(connection):
    requester = Requester(connection)
    queue = own_queue(requester.channel)
    name = requester.ask(queue, correlation_id="7", headers={"a": 1})
    assert name.startswith(REPLY_TO + ".") and len(name) > len(REPLY_TO) + 20, name
    equal(requester.ask(queue), name, "the name for the next request")
    with connect() as other:
        channel = other.channel()
        channel.confirm_delivery()
        for number in range(3):
            properties = pika.BasicProperties(correlation_id=str(number), delivery_mode=2, reply_to="me")
            channel.basic_publish("", name, b"reply %d" % number, properties, mandatory=True)
    equal(requester.await_replies(3), [b"reply 0", b"reply 1", b"reply 2"])
    method, properties, _ = requester.replies[2]
    equal((method.exchange, method.routing_key, method.redelivered), ("", name, False))
    equal((properties.correlation_id, properties.reply_to), ("2", "me"))


@case
def what_a_request_says_else_stays(connection):
    requester = Requester(connection)
    queue = own_queue(requester.channel)
    sent = dict(
        content_type="text/plain", headers={"a": 1, "b": ["c"]}, delivery_mode=2, priority=3,
        correlation_id="c", expiration="60000", message_id="m", timestamp=1_700_000_000, type="t",
        user_id="guest", app_id="a",
    )
    requester.channel.basic_publish("", queue, b"", pika.BasicProperties(reply_to=REPLY_TO, **sent))
    received = None
    while received is None:
        _, received, _ = requester.channel.basic_get(queue, auto_ack=True)
    equal({name: getattr(received, name) for name in sent}, sent)


@case
def many_requests_are_served_by_a_worker(connection):
    count = 500
    requester = Requester(connection)
    queue = own_queue(requester.channel)
    server = connection.channel()
    server.basic_consume(
        queue,
        lambda channel, method, properties, body: channel.basic_publish(
            "", properties.reply_to, body + b"!", pika.BasicProperties(correlation_id=properties.correlation_id)
        ),
        auto_ack=True,
    )
    for number in range(count):
        properties = pika.BasicProperties(reply_to=REPLY_TO, correlation_id=str(number))
        requester.channel.basic_publish("", queue, b"%d" % number, properties)
    equal(requester.await_replies(count), [b"%d!" % number for number in range(count)])


@case
def in_transactions(connection):
    requester = Requester(connection)
    queue = own_queue(requester.channel)
    requester.channel.tx_select()
    requester.channel.basic_publish("", queue, b"x", pika.BasicProperties(reply_to=REPLY_TO))
    requester.channel.tx_commit()
    _, received, _ = requester.channel.basic_get(queue, auto_ack=True)
    server = connection.channel()
    server.tx_select()
    for body in (b"rolled back", b"committed"):
        server.basic_publish("", received.reply_to, body)
        server.tx_rollback() if body == b"rolled back" else server.tx_commit()
    equal(requester.await_replies(1), [b"committed"])


@case
def requests_need_a_consumer_of_replies(connection):
    text = "PRECONDITION_FAILED - fast reply consumer does not exist"
    queue = own_queue(connection.channel())
    Requester(connection)  # Of another channel.

    def ask(channel):
        channel.basic_publish("", queue, b"", pika.BasicProperties(reply_to=REPLY_TO))

    def ask_in_transaction(channel):
        channel.tx_select()
        ask(channel)
        channel.tx_commit()

    def ask_after_cancel(channel):
        requester = Requester(connection, channel)
        channel.basic_cancel(requester.tag)
        ask(channel)

    for action in (ask, ask_in_transaction, ask_after_cancel):
        expect_channel_close(connection, 406, text, action)
    equal(connection.channel().queue_declare(queue, passive=True).method.message_count, 0)


@case
def one_consumer_without_acknowledgements(connection):
    expect_channel_close(
        connection, 406, "PRECONDITION_FAILED - reply consumer cannot acknowledge",
        lambda channel: channel.basic_consume(REPLY_TO, lambda *_: None),
    )
    expect_channel_close(
        connection, 406, "PRECONDITION_FAILED - reply consumer already set",
        lambda channel: [Requester(connection, channel) for _ in range(2)],
    )
    channel = connection.channel()
    first = Requester(connection, channel)
    channel.basic_cancel(first.tag)
    queue = own_queue(channel)
    again = Requester(connection, channel)
    other = Requester(connection)
    assert again.ask(queue) != other.ask(queue), "two channels have one name"


@case
def the_name_tells_whether_the_requester_is_there(connection):
    def passive(name):
        return connection.channel().queue_declare(name, passive=True).method

    equal(passive(REPLY_TO).consumer_count, 1)
    with connect() as asking:
        for end in (lambda r: r.channel.basic_cancel(r.tag), lambda r: r.channel.close(), lambda _: asking.close()):
            requester = Requester(asking)
            name = requester.ask(own_queue(requester.channel))
            equal((passive(name).message_count, passive(name).consumer_count), (0, 1))
            end(requester)
            expect_channel_close(
                connection, 404, f"NOT_FOUND - no queue '{name}' in vhost '/'",
                lambda channel: channel.queue_declare(name, passive=True),
            )
            # A late reply is dropped, even one that is mandatory.
            late = connection.channel()
            late.confirm_delivery()
            late.basic_publish("", name, b"late", mandatory=True)


@case
def it_is_no_queue(connection):
    requester = Requester(connection)
    name = requester.ask(own_queue(requester.channel))
    text = "ACCESS_REFUSED - cannot bind or unbind to a volatile (direct reply-to) queue"
    for action in (
        lambda channel: channel.queue_bind(name, "amq.direct", "key"),
        lambda channel: channel.queue_unbind(name, "amq.direct", "key"),
    ):
        expect_channel_close(connection, 403, text, action)
    expect_channel_close(
        connection, 406,
        f"PRECONDITION_FAILED - only creator channel may consume from queue '{name}' in vhost '/'",
        lambda channel: channel.basic_consume(name, lambda *_: None, auto_ack=True),
    )
    other = connection.channel()
    equal(other.queue_purge(name).method.message_count, 0)
    equal(other.queue_delete(name).method.message_count, 0)
    other.basic_publish("", name, b"after all")
    equal(requester.await_replies(1), [b"after all"])
    missing = unique(REPLY_TO + ".")
    try:
        connection.channel().basic_consume(missing, lambda *_: None, auto_ack=True)
    except ChannelClosedByBroker as closed:
        equal(closed.reply_code, 404)
    else:
        raise AssertionError("there is such a queue")


@case_of_its_own
async def a_client_of_aio_pika_asks_too():
    async with await aio_pika.connect(URL) as connection:
        asking, serving = await connection.channel(), await connection.channel()
        queue = await serving.declare_queue(exclusive=True)

        async def answer(request):
            reply = aio_pika.Message(request.body + b"!", correlation_id=request.correlation_id)
            await serving.default_exchange.publish(reply, request.reply_to)

        await queue.consume(answer, no_ack=True)
        came = asyncio.Queue()
        await (await asking.get_queue(REPLY_TO, ensure=False)).consume(came.put, no_ack=True)
        for number in range(100):
            request = aio_pika.Message(b"%d" % number, reply_to=REPLY_TO, correlation_id=str(number))
            await asking.default_exchange.publish(request, queue.name)
            reply = await came.get()
            equal((reply.body, reply.correlation_id), (b"%d!" % number, str(number)), "the reply")
