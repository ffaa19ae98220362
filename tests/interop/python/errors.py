"""Refusals: the code and the exact text, and what stays as it was."""

from pika.exceptions import ConnectionClosedByBroker

from harness import case, connect, equal, expect_channel_close, own_queue, unique


@case
def publish_to_an_absent_exchange(connection):
    name = unique("absent")
    text = f"NOT_FOUND - no exchange '{name}' in vhost '/'"
    expect_channel_close(connection, 404, text, lambda channel: channel.basic_publish(name, "key", b"x"))


@case
def consume_from_an_absent_queue(connection):
    name = unique("absent")
    text = f"NOT_FOUND - no queue '{name}' in vhost '/'"
    expect_channel_close(connection, 404, text, lambda channel: channel.basic_consume(name, lambda *_: None))
    expect_channel_close(connection, 404, text, lambda channel: channel.basic_get(name))
    expect_channel_close(connection, 404, text, lambda channel: channel.queue_purge(name))
    expect_channel_close(connection, 404, text, lambda channel: channel.queue_declare(name, passive=True))


@case
def passive_declare_of_an_absent_exchange(connection):
    name = unique("absent")
    text = f"NOT_FOUND - no exchange '{name}' in vhost '/'"
    expect_channel_close(connection, 404, text, lambda channel: channel.exchange_declare(name, passive=True))


@case
def bind_to_an_absent_exchange(connection):
    queue, name = own_queue(connection.channel()), unique("absent")
    text = f"NOT_FOUND - no exchange '{name}' in vhost '/'"
    expect_channel_close(connection, 404, text, lambda channel: channel.queue_bind(queue, name, "key"))
    expect_channel_close(connection, 404, text, lambda channel: channel.exchange_bind("amq.fanout", name))
    expect_channel_close(connection, 404, text, lambda channel: channel.exchange_bind(name, "amq.fanout"))


@case
def bind_an_absent_queue(connection):
    name = unique("absent")
    text = f"NOT_FOUND - no queue '{name}' in vhost '/'"
    expect_channel_close(connection, 404, text, lambda channel: channel.queue_bind(name, "amq.direct", "key"))


@case
def redeclare_a_queue_otherwise(connection):
    name = unique("queue")
    connection.channel().queue_declare(name, exclusive=True, arguments={"x-max-length": 5})
    before = f"PRECONDITION_FAILED - inequivalent arg '%s' for queue '{name}' in vhost '/': "
    expect_channel_close(
        connection, 406, before % "x-max-length" + "received '6' but current is '5'",
        lambda channel: channel.queue_declare(name, exclusive=True, arguments={"x-max-length": 6}),
    )
    expect_channel_close(
        connection, 406, before % "x-max-length" + "received none but current is the value '5' of type 'signedint'",
        lambda channel: channel.queue_declare(name, exclusive=True),
    )
    expect_channel_close(
        connection, 406, before % "auto_delete" + "received 'true' but current is 'false'",
        lambda channel: channel.queue_declare(name, exclusive=True, auto_delete=True),
    )


@case
def redeclare_a_durable_queue_otherwise(connection):
    name = unique("queue")
    connection.channel().queue_declare(name, durable=True)
    text = (f"PRECONDITION_FAILED - inequivalent arg 'durable' for queue '{name}' in vhost '/': "
            "received 'false' but current is 'true'")
    try:
        expect_channel_close(connection, 406, text, lambda channel: channel.queue_declare(name))
    finally:
        connection.channel().queue_delete(name)


@case
def redeclare_an_exchange_otherwise(connection):
    name = unique("exchange")
    connection.channel().exchange_declare(name, "direct")
    before = f"PRECONDITION_FAILED - inequivalent arg '%s' for exchange '{name}' in vhost '/': "
    for changes, argument, received, current in (
        ({"exchange_type": "fanout"}, "type", "'fanout'", "'direct'"),
        ({"durable": True}, "durable", "'true'", "'false'"),
        ({"auto_delete": True}, "auto_delete", "'true'", "'false'"),
        ({"internal": True}, "internal", "'true'", "'false'"),
        ({"arguments": {"alternate-exchange": "amq.fanout"}}, "alternate-exchange",
         "the value 'amq.fanout' of type 'longstr'", "none"),
    ):
        text = before % argument + f"received {received} but current is {current}"
        wanted = {"exchange_type": "direct", **changes}
        expect_channel_close(connection, 406, text, lambda channel: channel.exchange_declare(name, **wanted))
    connection.channel().exchange_delete(name)


@case
def unknown_exchange_type(connection):
    text = "PRECONDITION_FAILED - unknown exchange type 'x-no-such-type'"
    expect_channel_close(
        connection, 406, text, lambda channel: channel.exchange_declare(unique("exchange"), "x-no-such-type")
    )


@case
def exclusive_queue_of_another_connection(connection):
    name = unique("exclusive")
    connection.channel().queue_declare(name, exclusive=True)
    text = (f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'. It could be "
            "originally declared on another connection or the exclusive property value does not match that of the "
            "original declaration.")
    with connect() as other:
        for action in (
            lambda channel: channel.queue_declare(name, exclusive=True),
            lambda channel: channel.queue_declare(name, passive=True),
            lambda channel: channel.queue_bind(name, "amq.fanout"),
            lambda channel: channel.basic_consume(name, lambda *_: None),
            lambda channel: channel.basic_get(name),
            lambda channel: channel.queue_purge(name),
            lambda channel: channel.queue_delete(name),
        ):
            expect_channel_close(other, 405, text, action)
    connection.channel().queue_declare(name, exclusive=True)


@case
def reserved_names(connection):
    expect_channel_close(
        connection, 403, "ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",
        lambda channel: channel.queue_declare("amq.mine", exclusive=True),
    )
    expect_channel_close(
        connection, 403, "ACCESS_REFUSED - exchange name 'amq.mine' contains reserved prefix 'amq.*'",
        lambda channel: channel.exchange_declare("amq.mine", "direct"),
    )
    expect_channel_close(
        connection, 403, "ACCESS_REFUSED - deletion of system exchange 'amq.direct' in vhost '/' not allowed",
        lambda channel: channel.exchange_delete("amq.direct"),
    )


@case
def a_name_given_by_the_server_cannot_be_declared(connection):
    queue = own_queue(connection.channel())
    expect_channel_close(
        connection, 403, f"ACCESS_REFUSED - queue name '{queue}' contains reserved prefix 'amq.*'",
        lambda channel: channel.queue_declare(queue, exclusive=True),
    )
    connection.channel().queue_declare(queue, passive=True)


@case
def the_default_exchange_is_fixed(connection):
    queue = own_queue(connection.channel())
    text = "ACCESS_REFUSED - operation not permitted on the default exchange"
    for action in (
        lambda channel: channel.exchange_delete(""),
        lambda channel: channel.queue_bind(queue, "", "key"),
        lambda channel: channel.queue_unbind(queue, "", queue),
        lambda channel: channel.exchange_bind("amq.fanout", "", "key"),
        lambda channel: channel.exchange_bind("", "amq.fanout", "key"),
    ):
        expect_channel_close(connection, 403, text, action)


@case
def publish_to_an_internal_exchange(connection):
    name = unique("internal")
    connection.channel().exchange_declare(name, "fanout", internal=True)
    text = f"ACCESS_REFUSED - cannot publish to internal exchange '{name}' in vhost '/'"
    expect_channel_close(connection, 403, text, lambda channel: channel.basic_publish(name, "", b"x"))
    connection.channel().exchange_delete(name)


@case
def unknown_delivery_tag(connection):
    text = "PRECONDITION_FAILED - unknown delivery tag 7"
    for action in (
        lambda channel: channel.basic_ack(7),
        lambda channel: channel.basic_nack(7),
        lambda channel: channel.basic_reject(7),
        lambda channel: channel.basic_ack(7, multiple=True),
    ):
        expect_channel_close(connection, 406, text, action)


@case
def acknowledged_twice(connection):
    queue = own_queue(connection.channel())

    def twice(channel):
        channel.basic_publish("", queue, b"x")
        tag = None
        while tag is None:
            method, _, _ = channel.basic_get(queue)
            tag = method and method.delivery_tag
        channel.basic_ack(tag)
        channel.basic_ack(tag)

    expect_channel_close(connection, 406, "PRECONDITION_FAILED - unknown delivery tag 1", twice)


@case
def delete_if_unused_and_if_empty(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    used, filled = own_queue(channel), own_queue(channel)
    channel.basic_consume(used, lambda *_: None)
    channel.basic_publish("", filled, b"x")
    expect_channel_close(
        connection, 406, f"PRECONDITION_FAILED - queue '{used}' in vhost '/' in use",
        lambda channel: channel.queue_delete(used, if_unused=True),
    )
    expect_channel_close(
        connection, 406, f"PRECONDITION_FAILED - queue '{filled}' in vhost '/' not empty",
        lambda channel: channel.queue_delete(filled, if_empty=True),
    )
    channel.queue_delete(filled, if_unused=True)


@case
def delete_an_exchange_in_use(connection):
    channel = connection.channel()
    name, queue = unique("exchange"), own_queue(channel)
    channel.exchange_declare(name, "direct")
    channel.queue_bind(queue, name, "key")
    expect_channel_close(
        connection, 406, f"PRECONDITION_FAILED - exchange '{name}' in vhost '/' in use",
        lambda channel: channel.exchange_delete(name, if_unused=True),
    )
    channel.queue_unbind(queue, name, "key")
    channel.exchange_delete(name, if_unused=True)


@case
def duplicate_consumer_tag(_):
    with connect() as connection:
        channel = connection.channel()
        queue = own_queue(channel)
        # pika itself refuses a tag that it knows, so the second consumer is asked for below its surface.
        channel.basic_consume(queue, lambda *_: None, consumer_tag="twice")
        del channel._consumer_infos["twice"]
        del channel._impl._consumers["twice"]
        try:
            channel.basic_consume(queue, lambda *_: None, consumer_tag="twice")
        except ConnectionClosedByBroker as closed:
            equal((closed.reply_code, closed.reply_text), (530, "NOT_ALLOWED - attempt to reuse consumer tag 'twice'"))
        else:
            raise AssertionError("the second consumer was accepted")


@case
def no_queue_declared_on_the_channel(connection):
    text = "NOT_FOUND - no previously declared queue"
    expect_channel_close(connection, 404, text, lambda channel: channel.basic_get(""))
    expect_channel_close(connection, 404, text, lambda channel: channel.queue_bind("", "amq.direct", "key"))


@case
def a_refused_bind_leaves_nothing(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    name, queue = unique("headers"), own_queue(channel)
    channel.exchange_declare(name, "headers")
    try:
        connection.channel().queue_bind(queue, name, "", {"x-match": "none"})
    except Exception as closed:
        equal(closed.reply_code, 406)
    channel.basic_publish(name, "", b"x")
    equal(channel.basic_get(queue), (None, None, None))
    channel.exchange_delete(name)
