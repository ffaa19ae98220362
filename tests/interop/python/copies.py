"""Further routing keys: the headers CC and BCC."""

import pika
from pika.exceptions import ChannelClosedByBroker, UnroutableError

from harness import case, equal, expect_channel_close, own_exchange, own_queue


def confirming(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def send(channel, exchange, key, body=b"body", mandatory=True, **headers):
    channel.basic_publish(exchange, key, body, pika.BasicProperties(headers=headers), mandatory=mandatory)


def only(channel, queue):
    """Key and headers of the one message of a queue."""
    method, properties, _ = channel.basic_get(queue, auto_ack=True)
    assert method is not None, f"{queue} has nothing"
    equal(channel.basic_get(queue, auto_ack=True), (None, None, None), "what is behind it")
    return method.routing_key, properties.headers


def bound(channel, exchange, *keys):
    queue = own_queue(channel)
    for key in keys:
        channel.queue_bind(queue, exchange, key)
    return queue


@case
def all_keys_lead_to_queues_and_bcc_is_hidden(connection):
    channel = confirming(connection)
    first, copied, hidden = (own_queue(channel) for _ in range(3))
    send(channel, "", first, CC=[copied], BCC=[hidden], other=1)
    for queue in (first, copied, hidden):
        equal(only(channel, queue), (first, {"CC": [copied], "other": 1}), queue)
    send(channel, "", "nobody", BCC=[hidden])
    equal(only(channel, hidden), ("nobody", {}))


@case
def a_queue_gets_one_copy(connection):
    channel = confirming(connection)
    exchange = own_exchange(channel, "topic")
    queue = bound(channel, exchange, "a.#", "b.*", "c")
    send(channel, exchange, "a.1", CC=["b.1", "a.2"], BCC=["c", "c"])
    equal(only(channel, queue), ("a.1", {"CC": ["b.1", "a.2"]}))


@case
def every_core_type_takes_further_keys(connection):
    channel = confirming(connection)
    for kind, lead in (("direct", {"a", "b"}), ("topic", {"a", "b"}), ("fanout", {"a", "b", "c"})):
        exchange = own_exchange(channel, kind)
        queues = {key: bound(channel, exchange, key) for key in "abc"}
        for _ in range(2):
            send(channel, exchange, "a", CC=["b"])
            send(channel, exchange, "a")
            found = {key for key, queue in queues.items() if channel.basic_get(queue, auto_ack=True)[0]}
            equal(found, lead, kind)
            equal(channel.queue_purge(queues["b"]).method.message_count, int(kind == "fanout"))
            equal(channel.queue_purge(queues["a"]).method.message_count, 1)
            channel.queue_purge(queues["c"])


@case
def what_no_key_leads_anywhere_comes_back_without_bcc(connection):
    channel = confirming(connection)
    try:
        send(channel, "amq.direct", "nobody", CC=["nowhere"], BCC=["never"])
    except UnroutableError as returned:
        equal(returned.messages[0].properties.headers, {"CC": ["nowhere"]})
    else:
        raise AssertionError("it was not returned")


@case
def what_is_no_array_is_refused(connection):
    for headers, kind in (
        ({"CC": "text"}, '"CC",longstr'), ({"BCC": 5}, '"BCC",signedint'), ({"CC": {"a": 1}}, '"CC",table'),
        ({"CC": None}, '"CC",void'), ({"BCC": True}, '"BCC",bool'),
    ):
        text = f"PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,{kind}}}"
        expect_channel_close(
            connection, 406, text,
            lambda channel: send(channel, "amq.fanout", "key", mandatory=False, **headers),
        )
        transacted = connection.channel()
        transacted.tx_select()
        try:
            send(transacted, "amq.fanout", "key", mandatory=False, **headers)
            transacted.tx_commit()
        except ChannelClosedByBroker as closed:
            equal((closed.reply_code, closed.reply_text), (406, text), "in a transaction")
        else:
            raise AssertionError("it was committed")


@case
def what_is_no_string_in_an_array_is_passed_over(connection):
    channel = confirming(connection)
    first, copied = own_queue(channel), own_queue(channel)
    send(channel, "", first, CC=[5, "k" * 300, None, copied])
    for queue in (first, copied):
        equal(only(channel, queue)[0], first)


@case
def in_a_transaction_too(connection):
    channel = connection.channel()
    channel.tx_select()
    queues = [own_queue(channel) for _ in range(3)]
    send(channel, "", queues[0], CC=[queues[1]], BCC=[queues[2]])
    channel.tx_commit()
    for queue in queues:
        equal(only(channel, queue), (queues[0], {"CC": [queues[1]]}))
    channel.tx_commit()


@case
def a_dead_letter_goes_by_cc_unless_its_queue_has_a_key(connection):
    channel = confirming(connection)
    exchange = own_exchange(channel, "direct")
    first, copied, by_key = (bound(channel, exchange, key) for key in ("first", "copied", "key"))
    for arguments, lead in (({}, [first, copied]), ({"x-dead-letter-routing-key": "key"}, [by_key])):
        arguments["x-dead-letter-exchange"] = exchange
        dying = own_queue(channel, arguments=arguments)
        channel.queue_bind(dying, "amq.direct", "first")
        send(channel, "amq.direct", "first", CC=["copied", "more"])
        method, _, _ = channel.basic_get(dying)
        channel.basic_reject(method.delivery_tag, requeue=False)
        for queue in lead:
            death = None
            while death is None:  # It is sent on soon.
                _, properties, _ = channel.basic_get(queue, auto_ack=True)
                death = properties and properties.headers["x-death"][0]
            equal(death["routing-keys"], ["first", "copied", "more"])
            equal(properties.headers["CC"], ["copied", "more"])
        for queue in (first, copied, by_key):
            equal(channel.queue_purge(queue).method.message_count, 0)
        channel.queue_delete(dying)
