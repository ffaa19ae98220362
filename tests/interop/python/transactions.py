"""Transactions: what is published and acknowledged counts with its commit."""

import pika

from harness import await_that, case, counts, equal, expect_channel_close, own_queue


def transacted(connection):
    channel = connection.channel()
    channel.tx_select()
    return channel


@case
def publishes_count_with_their_commit(connection):
    channel, looker = transacted(connection), connection.channel()
    channel.tx_select()
    queue = own_queue(looker)
    channel.basic_publish("", queue, b"kept")
    equal(counts(looker, queue)[0], 0)
    channel.tx_commit()
    equal(counts(looker, queue)[0], 1)
    channel.basic_publish("", queue, b"dropped")
    channel.tx_rollback()
    channel.tx_commit()
    equal(counts(looker, queue)[0], 1)


@case
def acknowledgements_count_with_their_commit(connection):
    channel, looker = transacted(connection), connection.channel()
    looker.confirm_delivery()
    queue = own_queue(looker)
    for body in (b"1", b"2"):
        looker.basic_publish("", queue, body)
    method, _, _ = channel.basic_get(queue)
    channel.basic_ack(method.delivery_tag)
    channel.tx_rollback()
    channel.basic_ack(method.delivery_tag)
    channel.tx_commit()
    method, _, body = channel.basic_get(queue)
    equal(body, b"2")
    channel.basic_nack(method.delivery_tag)
    equal(counts(looker, queue)[0], 0, "before the commit")
    channel.tx_commit()
    equal(counts(looker, queue)[0], 1, "after the commit")


@case
def what_is_not_committed_comes_back(connection):
    channel, looker = transacted(connection), connection.channel()
    looker.confirm_delivery()
    queue = own_queue(looker)
    looker.basic_publish("", queue, b"1")
    method, _, _ = channel.basic_get(queue)
    channel.basic_publish("", queue, b"2")
    channel.basic_ack(method.delivery_tag)
    channel.close()
    method, _, body = looker.basic_get(queue)
    equal((body, method.redelivered, method.message_count), (b"1", True, 0))


@case
def returns_come_with_the_commit(connection):
    channel = transacted(connection)
    returned = []
    channel.add_on_return_callback(lambda _, method, *rest: returned.append(method.reply_text))
    channel.basic_publish("", "nobody", b"", mandatory=True)
    channel.basic_qos(prefetch_count=1)
    equal(returned, [])
    channel.tx_commit()
    await_that(connection, lambda: returned, "the return")
    equal(returned, ["NO_ROUTE"])


@case
def many_messages_and_queues(connection):
    channel, looker = transacted(connection), connection.channel()
    queues = [own_queue(looker) for _ in range(5)]
    for number in range(1000):
        for queue in queues:
            channel.basic_publish("", queue, str(number).encode(), pika.BasicProperties(delivery_mode=2))
    channel.tx_commit()
    equal([counts(looker, queue)[0] for queue in queues], [1000] * 5)


@case
def what_is_refused(connection):
    refused = lambda code, text, action: expect_channel_close(connection, code, text, action)
    failed = "PRECONDITION_FAILED - "

    def after_select(action):
        def run(channel):
            channel.tx_select()
            action(channel)
        return run

    def after_confirms(channel):
        channel.confirm_delivery()
        channel.tx_select()

    def double_ack(channel):
        queue = own_queue(channel)
        channel.basic_publish("", queue, b"1")
        channel.tx_select()
        method, _, _ = channel.basic_get(queue)
        channel.basic_ack(method.delivery_tag)
        channel.basic_ack(method.delivery_tag)

    def to_a_full_queue(channel):
        queue = own_queue(channel, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
        channel.tx_select()
        for _ in range(3):
            channel.basic_publish("", queue, b"1")
        channel.tx_commit()

    refused(406, failed + "channel is not transactional", lambda channel: channel.tx_commit())
    refused(406, failed + "channel is not transactional", lambda channel: channel.tx_rollback())
    refused(406, failed + "cannot switch from confirm to tx mode", after_confirms)
    refused(406, failed + "unknown delivery tag 1", double_ack)
    refused(406, failed + "partial tx completion", to_a_full_queue)
    text = "NOT_FOUND - no exchange 'nowhere' in vhost '/'"
    refused(404, text, after_select(lambda channel: channel.basic_publish("nowhere", "", b"")))
    soon = pika.BasicProperties(expiration="soon")
    text = failed + "invalid expiration 'soon': no_integer"
    refused(406, text, after_select(lambda channel: channel.basic_publish("", "x", b"", soon)))
