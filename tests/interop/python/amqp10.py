"""AMQP 1.0: Apache Qpid Proton, on the same port as the other protocol, and beside it."""

import contextlib
import uuid
from urllib.parse import quote, urlparse

import harness
import pika
from harness import case, counts, equal, unique
from proton import (
    UNDESCRIBED, Array, Data, Delivery, Link, Message, byte, char, decimal64, float32,
    int32, short, symbol, timestamp, ubyte, uint, ulong, ushort,
)
from proton.handlers import MessagingHandler, TransactionHandler
from proton.reactor import AtMostOnce, Container, LinkOption, Selector
from proton.utils import BlockingConnection, LinkDetached

WAIT = harness.EVENT_WAIT_MAX


@contextlib.contextmanager
def dial(**options):
    """A connection by AMQP 1.0."""
    url = urlparse(harness.URL)
    place = f"amqp://{url.username}:{url.password}@{url.hostname}:{url.port}"
    connection = BlockingConnection(place, timeout=WAIT, allowed_mechs="PLAIN", **options)
    try:
        yield connection
    finally:
        connection.close()


def queue_of(connection, **options):
    """A durable queue, made by the other protocol, with its channel and its address."""
    channel = connection.channel()
    name = unique("amqp10")
    channel.queue_declare(name, durable=True, **options)
    return channel, name, "/queues/" + quote(name, safe="")


def take(receiver, disposition=Delivery.ACCEPTED):
    message = receiver.receive(timeout=WAIT)
    receiver.settle(disposition)
    return message


@case
def values_of_every_type_come_back_as_they_went(connection):
    _, _, address = queue_of(connection)
    bodies = [
        b"\x00\xffbytes", "text \u00e9\u4e16", "", True, None, 1.5, uuid.uuid4(), symbol("sym"), char("c"),
        ubyte(255), ushort(65535), uint(2**32 - 1), ulong(2**64 - 1), byte(-128), short(-32768), int32(-2**31), -2**63,
        float32(0.25), timestamp(1_700_000_000_123), decimal64(7), ["list", 1, [2, {"k": "v"}]],
        {"map": 1, symbol("s"): ["x"], 5: None}, Array(UNDESCRIBED, Data.INT, int32(1), int32(2), int32(3)),
        "x" * 70_000, [str(n) for n in range(1000)],
    ]
    with dial() as amqp10:
        sender, receiver = amqp10.create_sender(address), amqp10.create_receiver(address, credit=1)
        for body in bodies:
            sender.send(Message(body=body))
            message = take(receiver)
            # Proton's bytes are a view of the message's own.
            came = message.body
            equal(bytes(came) if isinstance(came, memoryview) else came, body)
            equal(type(came) if not isinstance(came, memoryview) else bytes, type(body), repr(body))


@case
def sections_come_back_as_they_went(connection):
    _, name, address = queue_of(connection)
    with dial() as amqp10:
        sender, receiver = amqp10.create_sender(address), amqp10.create_receiver(address, credit=1)
        sent = Message(
            body=b"body", inferred=True, durable=True, priority=7, ttl=60.0, id=uuid.uuid4(), user_id=b"guest",
            address=address, subject="subject", reply_to="/queues/replies", correlation_id=ulong(9),
            content_type=symbol("text/plain"), content_encoding=symbol("gzip"), expiry_time=1.0, creation_time=2.5,
            group_id="group", group_sequence=3, reply_to_group_id="replies",
            properties={"n": 1, "s": "x", "f": 0.5, "u": uuid.uuid4(), "none": None},
            annotations={symbol("x-own"): "a", symbol("x-list"): [1, 2]}, instructions={symbol("hop"): 1},
        )
        sender.send(sent)
        came = take(receiver)
        for field in (
            "durable", "priority", "ttl", "id", "user_id", "address", "subject", "reply_to", "correlation_id",
            "content_type", "content_encoding", "expiry_time", "creation_time", "group_id", "group_sequence",
            "reply_to_group_id", "properties",
        ):
            equal(getattr(came, field), getattr(sent, field), field)
        equal(came.annotations, {symbol("x-own"): "a", symbol("x-list"): [1, 2], symbol("x-exchange"): "",
                                 symbol("x-routing-key"): name})
        equal(came.instructions, None, "delivery-annotations are for one hop")
        equal((came.first_acquirer, came.delivery_count), (True, 0))


@case
def what_one_protocol_publishes_the_other_consumes(connection):
    channel, name, address = queue_of(connection)
    with dial() as amqp10:
        sender, receiver = amqp10.create_sender(address), amqp10.create_receiver(address, credit=0)
        sender.send(Message(
            body=b"from 1.0", inferred=True, durable=True, priority=3, id="id", correlation_id=42, ttl=60.0,
            reply_to="/queues/r%20q", content_type=symbol("text/plain"), group_id="app", user_id=b"guest",
            properties={"n": 1, "s": "x"}, annotations={symbol("x-own"): "a", symbol("x-cc"): []},
        ))
        _, properties, body = channel.basic_get(name, auto_ack=True)
        equal(body, b"from 1.0")
        equal((properties.delivery_mode, properties.priority, properties.message_id, properties.correlation_id),
              (2, 3, "id", "42"))
        equal((properties.expiration, properties.reply_to, properties.content_type, properties.app_id,
               properties.user_id), ("60000", "r q", "text/plain", "app", "guest"))
        equal(properties.headers, {"n": 1, "s": "x", "x-own": "a", "CC": []})
        sender.send(Message(body="a value"))
        _, properties, body = channel.basic_get(name, auto_ack=True)
        equal((properties.type, body), ("amqp-1.0", b"\x00\x53\x77\xa1\x07a value"))

        channel.basic_publish("", name, b"from 0-9-1", pika.BasicProperties(
            headers={"x-own": 1, "plain": "v", "table": {}}, delivery_mode=2, priority=2, message_id="urn:uuid:" + str(uuid.UUID(int=7)),
            correlation_id="c", reply_to="r q", expiration="60000", type="kind", app_id="app", timestamp=5,
        ))
        receiver.link.flow(1)
        came = take(receiver)
        equal(bytes(came.body), b"from 0-9-1")
        equal((came.durable, came.priority, came.id, came.correlation_id), (True, 2, uuid.UUID(int=7), "c"))
        equal((came.reply_to, came.ttl, came.group_id, came.creation_time), ("/queues/r%20q", 60.0, "app", 5.0))
        equal(came.properties, {"plain": "v"})
        equal((came.annotations["x-own"], came.annotations["x-basic-type"]), (1, "kind"))


@case
def outcomes_on_classic_and_quorum_queues(connection):
    for kind in ("classic", "quorum"):
        channel, letters, letters_address = queue_of(connection)
        _, name, address = queue_of(connection, arguments={
            "x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters,
        })
        with dial() as amqp10:
            sender, receiver = amqp10.create_sender(address), amqp10.create_receiver(address, credit=1)
            sender.send(Message(body="m", durable=True))
            equal(take(receiver, Delivery.RELEASED).first_acquirer, True)
            came = receiver.receive(timeout=WAIT)
            equal((came.first_acquirer, came.delivery_count), (False, 0), kind)
            delivery = receiver.fetcher.unsettled.popleft()
            delivery.local.failed = True
            delivery.update(Delivery.MODIFIED)
            delivery.settle()
            came = take(receiver, Delivery.REJECTED)
            equal(came.delivery_count, 1, kind)
            letter = take(amqp10.create_receiver(letters_address, credit=1))
            equal(letter.annotations["x-first-death-reason"], "rejected")
            deaths = letter.annotations["x-opt-deaths"]
            equal((deaths.elements[0][symbol("queue")], deaths.elements[0][symbol("count")]), (name, 1))
            equal(counts(channel, name)[0], 0)


@case
def unroutable_is_released_and_refused_is_rejected_with_a_condition(connection):
    channel = connection.channel()
    full = unique("full")
    channel.queue_declare(full, durable=True, arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    with dial() as amqp10:
        nobody = amqp10.create_sender("/exchanges/amq.topic/nobody")
        for link, outcomes in ((nobody, [Delivery.RELEASED]),
                               (amqp10.create_sender(f"/queues/{full}"), [Delivery.ACCEPTED, Delivery.REJECTED])):
            for outcome in outcomes:
                delivery = link.link.send(Message(body="m"))
                amqp10.wait(lambda: delivery.settled)
                equal(delivery.remote_state, outcome)
        equal(delivery.remote.condition.name, "amqp:resource-limit-exceeded")
        equal(delivery.remote.condition.info, {symbol("queue"): full, symbol("reason"): symbol("maxlen")})


@case
def addresses_lead_through_exchanges(connection):
    channel, name, address = queue_of(connection)
    exchange = unique("a/b %")
    channel.exchange_declare(exchange, "topic", auto_delete=True)
    channel.queue_bind(name, exchange, "a.#")
    place = "/exchanges/" + quote(exchange, safe="")
    with dial() as amqp10:
        receiver = amqp10.create_receiver(address, credit=10)
        amqp10.create_sender(place + "/a.b").send(Message(body="1"))
        anonymous = amqp10.create_sender(None)
        anonymous.send(Message(address=place + "/a", body="2"))
        anonymous.send(Message(address=address, body="3"))
        for body, key in (("1", "a.b"), ("2", "a"), ("3", name)):
            came = take(receiver)
            equal((came.body, came.annotations["x-routing-key"]), (body, key))


@case
def conditions_of_links_that_lead_nowhere(connection):
    with dial() as amqp10:
        for address, condition in (
            ("/queues/none", "amqp:not-found"), ("/exchanges/none/k", "amqp:not-found"),
            ("plain", "amqp:invalid-field"), ("/exchanges/amq.default", "amqp:invalid-field"),
        ):
            for create in (amqp10.create_sender, amqp10.create_receiver):
                try:
                    create(address)
                except LinkDetached as detached:
                    wanted = condition
                    if create == amqp10.create_receiver and address.startswith("/exchanges"):
                        wanted = "amqp:invalid-field"
                    equal(detached.condition, wanted, address)
                else:
                    raise AssertionError(f"{address} was attached")


@case
def credit_is_kept_and_drained(connection):
    _, _, address = queue_of(connection)
    with dial() as amqp10:
        sender = amqp10.create_sender(address)
        for number in range(5):
            sender.send(Message(body=number))
        receiver = amqp10.create_receiver(address, credit=0)
        receiver.link.flow(2)
        amqp10.wait(lambda: len(receiver.fetcher.incoming) == 2)
        receiver.link.drain(10)
        amqp10.wait(lambda: len(receiver.fetcher.incoming) == 5 and receiver.link.credit == 0)
        equal([take(receiver).body for _ in range(5)], list(range(5)))


@case
def ten_thousand_unsettled_each_way_keep_their_order(connection):
    channel, name, address = queue_of(connection)
    total, window = 10_000, 500

    class Pump(MessagingHandler):
        def __init__(self):
            super().__init__(prefetch=window, auto_accept=False)
            self.sent = self.accepted = 0
            self.came = []

        def on_start(self, event):
            place = harness.parameters()
            url = f"amqp://{place.credentials.username}:{place.credentials.password}@{place.host}:{place.port}"
            self.connection = event.container.connect(url, allowed_mechs="PLAIN", reconnect=False)
            event.container.create_sender(self.connection, address)
            event.container.create_receiver(self.connection, address)

        def on_sendable(self, event):
            while event.sender.credit and self.sent < total:
                event.sender.send(Message(body=self.sent))
                self.sent += 1

        def on_accepted(self, event):
            self.accepted += 1
            self.look()

        def on_message(self, event):
            self.came.append(event.message.body)
            self.accept(event.delivery)
            self.look()

        def look(self):
            if self.accepted == total and len(self.came) == total:
                self.connection.close()

    pump = Pump()
    Container(pump).run()
    equal(pump.came, list(range(total)))
    equal(counts(channel, name)[0], 0)


@case
def messages_of_many_frames(connection):
    channel, name, address = queue_of(connection)
    with dial(max_frame_size=4096) as amqp10:
        body = bytes(range(256)) * 20_000
        amqp10.create_sender(address).send(Message(body=body, inferred=True))
        message = take(amqp10.create_receiver(address, credit=1))
        equal(bytes(message.body) == body, True)
        amqp10.create_sender(address).send(Message(body=body, inferred=True))
        equal(channel.basic_get(name, auto_ack=True)[2] == body, True)


@case
def settled_both_ways(connection):
    channel, name, address = queue_of(connection)
    with dial() as amqp10:
        sender = amqp10.create_sender(address, options=AtMostOnce())
        for number in range(100):
            sender.send(Message(body=number))
        receiver = amqp10.create_receiver(address, credit=100, options=AtMostOnce())
        equal([receiver.receive(timeout=WAIT).body for _ in range(100)], list(range(100)))
        equal(counts(channel, name)[0], 0)


@case
def what_was_not_settled_comes_again(connection):
    _, _, address = queue_of(connection)
    with dial() as amqp10:
        amqp10.create_sender(address).send(Message(body="m"))
        receiver = amqp10.create_receiver(address, credit=1)
        equal(receiver.receive(timeout=WAIT).body, "m")
        receiver.close()
        receiver = amqp10.create_receiver(address, credit=1)
        equal(receiver.receive(timeout=WAIT).first_acquirer, False)
    with dial() as amqp10:
        equal(take(amqp10.create_receiver(address, credit=1)).body, "m")


@case
def selectors_share_a_queue(connection):
    for kind in ("classic", "quorum"):
        channel, name, address = queue_of(connection, arguments={"x-queue-type": kind})
        with dial() as amqp10:
            red = amqp10.create_receiver(address, name="red", options=Selector("colour = 'red' AND number > 1"))
            blue = amqp10.create_receiver(address, name="blue", options=Selector("JMSType LIKE 'b%'"))
            sender = amqp10.create_sender(address)
            for number, colour in enumerate(("green", "red", "blue", "red", "blue", "red")):
                sender.send(Message(body=number, durable=True, subject=colour,
                                    properties={"colour": colour, "number": number}))
            equal([take(red).body, take(red).body], [3, 5])
            equal(take(blue, Delivery.RELEASED).body, 2)
            # The client may send the credit for the next one before it says what becomes of this.
            equal(sorted([take(blue).body, take(blue).body]), [2, 4])
            equal(counts(channel, name)[0], 2)
            try:
                amqp10.create_receiver(address, name="wrong", options=Selector("colour ="))
            except LinkDetached as refused:
                equal(refused.condition, "amqp:invalid-field")
                equal("at character 9" in str(refused), True, str(refused))
            else:
                raise AssertionError("a wrong selector was taken")


@case
def what_modified_adds_comes_again(connection):
    for kind in ("classic", "quorum"):
        _, letters, letters_address = queue_of(connection)
        _, _, address = queue_of(connection, arguments={
            "x-queue-type": kind, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": letters,
        })
        with dial() as amqp10:
            amqp10.create_sender(address).send(Message(body="m", durable=True))
            receiver = amqp10.create_receiver(address, credit=1)

            def modify(annotations, undeliverable):
                message = receiver.receive(timeout=WAIT)
                delivery = receiver.fetcher.unsettled.popleft()
                delivery.local.failed, delivery.local.undeliverable = True, undeliverable
                delivery.local.annotations = {symbol(key): value for key, value in annotations.items()}
                delivery.update(Delivery.MODIFIED)
                delivery.settle()
                return message

            modify({"x-opt-why": "first", "x-opt-map": {"k": [1, None]}}, False)
            came = modify({"x-opt-why": "second"}, True)
            equal((came.annotations["x-opt-why"], came.annotations["x-opt-map"], came.delivery_count),
                  ("first", {"k": [1, None]}, 1), kind)
            letter = take(amqp10.create_receiver(letters_address, credit=1))
            equal((letter.annotations["x-opt-why"], letter.annotations["x-opt-map"]), ("second", {"k": [1, None]}), kind)


class Temporary(LinkOption):
    """What RabbitMQ wants of those that ask for a dynamic node."""

    def apply(self, link):
        terminus = link.target if link.is_sender else link.source
        terminus.dynamic = True
        terminus.capabilities.put_array(False, Data.SYMBOL)
        terminus.capabilities.enter()
        terminus.capabilities.put_symbol(symbol("temporary-queue"))
        terminus.capabilities.exit()


@case
def requests_are_answered_at_a_dynamic_node(connection):
    _, _, address = queue_of(connection)
    with dial() as client, dial() as server:
        replies = client.create_receiver(None, credit=1, dynamic=True, options=Temporary())
        place = replies.remote_source.address
        client.create_sender(address).send(Message(body="question", reply_to=place, correlation_id=5))
        request = take(server.create_receiver(address, credit=1))
        answers = server.create_sender(None)
        answers.send(Message(address=request.reply_to, correlation_id=request.correlation_id, body="answer"))
        reply = take(replies)
        equal((reply.body, reply.correlation_id), ("answer", 5))
        try:
            server.create_receiver(place)
        except LinkDetached as refused:
            equal(refused.condition, "amqp:resource-locked")
        else:
            raise AssertionError("another connection's dynamic node was attached")
        replies.close()
        try:
            client.create_sender(place)
        except LinkDetached as refused:
            equal(refused.condition, "amqp:not-found")
        else:
            raise AssertionError("a dynamic node outlived its link")


@case
def links_end_with_their_queue(connection):
    channel, name, address = queue_of(connection)
    with dial() as amqp10:
        sender, receiver = amqp10.create_sender(address), amqp10.create_receiver(address, credit=1)
        channel.queue_delete(name)
        try:
            receiver.receive(timeout=WAIT)
        except LinkDetached as detached:
            equal(detached.condition, "amqp:resource-deleted")
        else:
            raise AssertionError("something came from a queue that is gone")
        delivery = sender.link.send(Message(body="late"))
        amqp10.wait(lambda: delivery.settled)
        equal(delivery.remote_state, Delivery.RELEASED)


@case
def settled_second(connection):
    channel, name, address = queue_of(connection)
    with dial() as amqp10:
        sender = amqp10.create_sender(address, options=Second())
        delivery = sender.link.send(Message(body="m"))
        amqp10.wait(lambda: delivery.remote_state)
        equal((delivery.remote_state, delivery.settled), (Delivery.ACCEPTED, False), "before it is settled")
        delivery.settle()
        receiver = amqp10.create_receiver(address, credit=1, options=Second())
        equal(receiver.receive(timeout=WAIT).body, "m")
        delivery = receiver.fetcher.unsettled.popleft()
        delivery.update(Delivery.ACCEPTED)
        amqp10.wait(lambda: delivery.settled)
        delivery.settle()
        equal(counts(channel, name)[0], 0)


class Second(LinkOption):
    """The receiver settles after the sender."""

    def apply(self, link):
        link.rcv_settle_mode = Link.RCV_SECOND


class Transfers(MessagingHandler, TransactionHandler):
    """Moves messages in transactions: commits those with an even number, and aborts the others once."""

    def __init__(self, url, source, target, wanted):
        super().__init__(prefetch=0, auto_accept=False)
        self.url, self.source, self.target, self.wanted = url, source, target, wanted
        self.aborted, self.moved = set(), []

    def on_start(self, event):
        self.connection = event.container.connect(self.url, allowed_mechs="PLAIN", reconnect=False)
        self.container = event.container
        self.sender = event.container.create_sender(self.connection, self.target)
        self.receiver = event.container.create_receiver(self.connection, self.source)
        self.receiver.flow(1)

    def on_message(self, event):
        self.number, self.delivery = event.message.body, event.delivery
        self.container.declare_transaction(self.connection, handler=self)

    def on_transaction_declared(self, event):
        transaction = event.transaction
        transaction.send(self.sender, Message(body=self.number))
        transaction.accept(self.delivery)
        if self.number % 2 == 0 or self.number in self.aborted:
            transaction.commit()
        else:
            self.aborted.add(self.number)
            transaction.abort()

    def on_transaction_committed(self, event):
        self.delivery.settle()
        self.moved.append(self.number)
        if len(self.moved) == self.wanted:
            self.connection.close()
        else:
            self.receiver.flow(1)

    def on_transaction_aborted(self, event):
        # The client releases the message then.
        self.receiver.flow(1)

    def on_transaction_commit_failed(self, event):
        raise AssertionError("a commit failed")

    def on_transaction_declare_failed(self, event):
        raise AssertionError("no transaction")


@case
def transactions_move_messages(connection):
    channel, source, source_address = queue_of(connection)
    _, target, target_address = queue_of(connection)
    with dial() as amqp10:
        sender = amqp10.create_sender(source_address)
        for number in range(10):
            sender.send(Message(body=number))
    place = harness.parameters()
    url = f"amqp://{place.credentials.username}:{place.credentials.password}@{place.host}:{place.port}"
    transfers = Transfers(url, source_address, target_address, 10)
    Container(transfers).run()
    equal((sorted(transfers.moved), sorted(transfers.aborted)), (list(range(10)), [1, 3, 5, 7, 9]))
    equal((counts(channel, source)[0], counts(channel, target)[0]), (0, 10))


@case
def virtual_hosts_by_hostname(connection):
    _, _, address = queue_of(connection)
    with dial(virtual_host="vhost:/") as amqp10:
        amqp10.create_sender(address)
    try:
        with dial(virtual_host="vhost:nowhere"):
            raise AssertionError("the connection was opened")
    except Exception as error:
        assert "amqp:not-found" in str(error), error


@case
def further_keys_by_annotation(connection):
    channel, name, address = queue_of(connection)
    _, other, _ = queue_of(connection)
    with dial() as amqp10:
        sender = amqp10.create_sender(address)
        sender.send(Message(body="m", annotations={symbol("x-cc"): [other]}))
        equal((counts(channel, name)[0], counts(channel, other)[0]), (1, 1))
        delivery = sender.link.send(Message(body="m", annotations={symbol("x-cc"): "no list"}))
        amqp10.wait(lambda: delivery.settled)
        equal(delivery.remote.condition.name, "amqp:invalid-field")
