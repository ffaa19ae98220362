"""AMQP 1.0: RabbitMQ's own client. It speaks with nothing but a RabbitMQ of version 4, so the broker announces that."""

import asyncio
import contextlib

from rabbitmq_amqp_python_client import (
    AddressHelper, AmqpMessageRejectedException, AsyncEnvironment, ClassicQueueSpecification, ConsumerOptions,
    ConsumerSettleStrategy, Delivery, Environment, ExchangeCustomSpecification, ExchangeSpecification,
    ExchangeToExchangeBindingSpecification, ExchangeToQueueBindingSpecification, ExchangeType, Message,
    MessageProperties, QueueType, QuorumConsumerOptions, QuorumQueueSpecification, RecoveryConfiguration,
    StreamConsumerOptions, StreamFilterOptions, ValidationCodeException,
)
from rabbitmq_amqp_python_client.qpid.proton import ConnectionException
from rabbitmq_amqp_python_client.qpid.proton.utils import LinkDetached, SendException

from harness import case_of_its_own, equal, unique
from rabbitmq import (
    Collector, Enough, accept, bodies, consume, dial, discard, discard_with, environment, queue_of, requeue,
    requeue_with, uri,
)


def refused(action, words):
    """The client must tell a refusal with these words."""
    try:
        action()
    except ValidationCodeException as told:
        equal(words in str(told), True, str(told))
    else:
        raise AssertionError(f"not refused: {words}")


@case_of_its_own
def queues_exchanges_and_bindings_are_managed():
    with environment() as made:
        management = dial(made).management()
        classic, _ = queue_of(management, max_len=5, is_auto_delete=True, max_priority=4)
        info = management.queue_info(classic)
        equal((info.queue_type, info.is_auto_delete, info.is_durable, info.message_count, info.consumer_count),
              (QueueType.classic, True, True, 0, 0))
        equal((info.arguments["x-max-length"], info.arguments["x-max-priority"]), (5, 4))
        quorum, _ = queue_of(management, QuorumQueueSpecification, single_active_consumer=True)
        equal(management.queue_info(quorum).queue_type, QueueType.quorum)
        management.declare_queue(QuorumQueueSpecification(name=quorum, single_active_consumer=True))
        refused(lambda: management.declare_queue(ClassicQueueSpecification(name=quorum)), "ErrPreconditionFailed")
        first, second = unique("first"), unique("second /%")
        management.declare_exchange(ExchangeSpecification(name=first, exchange_type=ExchangeType.topic))
        management.declare_exchange(ExchangeCustomSpecification(name=second, exchange_type="x-consistent-hash"))
        none = ExchangeCustomSpecification(name=unique("none"), exchange_type="none")
        refused(lambda: management.declare_exchange(none), "400")
        paths = [
            management.bind(ExchangeToExchangeBindingSpecification(first, second, "a.#")),
            management.bind(ExchangeToQueueBindingSpecification(second, quorum, "1")),
        ]
        refused(lambda: management.bind(ExchangeToQueueBindingSpecification(first, unique("none"), "k")), "400")
        publisher = dial(made).publisher(AddressHelper.exchange_address(first, "a.b"))
        publisher.publish(Message(body=b"m"))
        equal(management.queue_info(quorum).message_count, 1)
        for path in paths:
            management.unbind(path)
        try:
            publisher.publish(Message(body=b"nowhere"))
        except SendException as told:
            equal(told.state, Delivery.RELEASED)
        else:
            raise AssertionError("routed without a binding")
        equal(management.purge_queue(quorum), 1)
        for queue in (classic, quorum):
            management.delete_queue(queue)
        for exchange in (first, second):
            management.delete_exchange(exchange)
        refused(lambda: management.queue_info(quorum), "404")


@case_of_its_own
def a_publisher_is_told_what_became_of_its_messages():
    with environment() as made:
        connection = dial(made)
        management = connection.management()
        _, address = queue_of(management, max_len=1, overflow_behaviour="reject-publish")
        anonymous = connection.publisher()
        equal(anonymous.publish(AddressHelper.message_to_address_helper(Message(body=b"fits"), address)).remote_state,
              Delivery.ACCEPTED)
        try:
            connection.publisher(address).publish(Message(body=b"does not"))
        except AmqpMessageRejectedException as told:
            equal("queue" in str(told), True, str(told))
        else:
            raise AssertionError("taken by a full queue")
        nowhere = Message(body=b"m", address=AddressHelper.queue_address(unique("none")))
        try:
            anonymous.publish(nowhere)
        except SendException as told:
            equal(told.state, Delivery.RELEASED)
        else:
            raise AssertionError("taken without a queue")
        try:
            connection.publisher(AddressHelper.exchange_address(unique("none")))
        except LinkDetached as told:
            equal(told.condition, "amqp:not-found")
        else:
            raise AssertionError("a publisher to no exchange")


@case_of_its_own
def a_consumer_gets_all_in_order():
    with environment() as made:
        connection = dial(made)
        management = connection.management()
        for kind in (ClassicQueueSpecification, QuorumQueueSpecification):
            name, address = queue_of(management, kind)
            publisher = connection.publisher(address)
            sent = [b"%d" % number for number in range(300)]
            for body in sent:
                publisher.publish(Message(body=body))
            equal(bodies(consume(made, address, 300, accept, credit=50)), sent)
            equal(management.queue_info(name).message_count, 0)


@case_of_its_own
def outcomes_with_annotations_and_dead_letters():
    with environment() as made:
        connection = dial(made)
        management = connection.management()
        for kind in (ClassicQueueSpecification, QuorumQueueSpecification):
            exchange = unique("dead")
            management.declare_exchange(ExchangeSpecification(name=exchange, exchange_type=ExchangeType.fanout))
            letters, letters_address = queue_of(management)
            management.bind(ExchangeToQueueBindingSpecification(exchange, letters))
            name, address = queue_of(management, kind, dead_letter_exchange=exchange)
            # One alone: the client names links by their addresses.
            publisher = connection.publisher(address)
            publisher.publish(Message(body=b"m", durable=True))
            came = consume(
                made, address, 4, requeue, requeue_with(why="first", list=["a", 1]), requeue_with(why="second"),
                discard_with(end="x"), credit=1,
            )
            equal([message.annotations.get("x-opt-why") for message in came], [None, None, "first", "second"], kind)
            equal(came[3].annotations["x-opt-list"], ["a", 1])
            equal([message.first_acquirer for message in came], [True, False, False, False])
            [letter] = consume(made, letters_address, 1, accept)
            equal([letter.annotations["x-opt-" + key] for key in ("why", "end")], ["second", "x"])
            equal(letter.annotations["x-first-death-reason"], "rejected")
            publisher.publish(Message(body=b"plain"))
            consume(made, address, 1, discard)
            equal(bodies(consume(made, letters_address, 1, accept)), [b"plain"])
            equal((management.queue_info(name).message_count, management.queue_info(letters).message_count), (0, 0))


@case_of_its_own
def what_is_settled_when_sent_is_gone():
    with environment() as made:
        connection = dial(made)
        management = connection.management()
        name, address = queue_of(management)
        publisher = connection.publisher(address)
        for number in range(20):
            publisher.publish(Message(body=b"%d" % number))
        options = ConsumerOptions(ConsumerSettleStrategy.PreSettled)
        equal(len(consume(made, address, 20, options=options)), 20)
        equal(management.queue_info(name).message_count, 0)


@case_of_its_own
def filters_choose_messages():
    with environment() as made:
        connection = dial(made)
        management = connection.management()
        for kind in (ClassicQueueSpecification, QuorumQueueSpecification):
            name, address = queue_of(management, kind)
            publisher = connection.publisher(address)
            for number in range(12):
                subject = "even" if number % 2 == 0 else "odd"
                properties = {"number": number, "third": number % 3 == 0}
                publisher.publish(Message(body=b"%d" % number, subject=subject, application_properties=properties))
            # The API is of streams; the filters are those of all queues here.
            for options, wanted in (
                (StreamFilterOptions(sql="properties.subject = 'even' AND number < 5"), [b"0", b"2", b"4"]),
                (StreamFilterOptions(message_properties=MessageProperties(subject="&p:o"),
                                     application_properties={"third": True}), [b"3", b"9"]),
                (StreamFilterOptions(application_properties={"number": 11}), [b"11"]),
                (StreamFilterOptions(message_properties=MessageProperties(subject="&s:en")), [b"6", b"8", b"10"]),
            ):
                options = StreamConsumerOptions(filter_options=options)
                equal(bodies(consume(made, address, len(wanted), accept, options=options)), wanted)
            equal(management.queue_info(name).message_count, 3)


@case_of_its_own
def requests_are_answered_directly():
    with environment() as made:
        connection = dial(made)
        _, address = queue_of(connection.management())
        replies = Collector(3)
        options = ConsumerOptions(ConsumerSettleStrategy.DirectReplyTo)
        client = dial(made)
        consumer = client.consumer(message_handler=replies, consumer_options=options)
        equal(consumer.address.startswith("/queues/amq.rabbitmq.reply-to."), True, consumer.address)
        requests = client.publisher(address)
        for number in range(3):
            requests.publish(Message(body=b"%d" % number, id=number, reply_to=consumer.address))
        answers = connection.publisher()
        for request in consume(made, address, 3, accept):
            answer = Message(body=b"to " + bytes(request.body), correlation_id=request.id, address=request.reply_to)
            equal(answers.publish(answer).remote_state, Delivery.ACCEPTED)
        with contextlib.suppress(Enough):
            consumer.run()
        equal([(bytes(reply.body), reply.correlation_id) for reply in replies.came],
              [(b"to 0", 0), (b"to 1", 1), (b"to 2", 2)])


@case_of_its_own
def a_single_active_consumer_is_told_so():
    with environment() as made:
        connection = dial(made)
        _, address = queue_of(connection.management(), QuorumQueueSpecification, single_active_consumer=True)
        publisher = connection.publisher(address)
        told = []

        def consumer_of(number):
            collector = Collector(1, accept)
            options = QuorumConsumerOptions(sac_state_handler=lambda active: told.append((number, active)))
            return dial(made).consumer(address, collector, options), collector

        first, of_first = consumer_of(1)
        publisher.publish(Message(body=b"1"))
        with contextlib.suppress(Enough):
            first.run()
        second, of_second = consumer_of(2)
        first.close()
        publisher.publish(Message(body=b"2"))
        with contextlib.suppress(Enough):
            second.run()
        equal((bodies(of_first.came), bodies(of_second.came)), ([b"1"], [b"2"]))
        equal((told[0], told[-1]), ((1, True), (2, True)))
        second.close()


@case_of_its_own
async def the_same_with_asyncio():
    async with AsyncEnvironment(uri=uri()) as made:
        connection = await made.connection()
        await connection.dial()
        management = await connection.management()
        name = unique("async")
        address = AddressHelper.queue_address(name)
        await management.declare_queue(QuorumQueueSpecification(name=name))
        publisher = await connection.publisher(address)
        for number in range(50):
            delivery = await publisher.publish(Message(body=b"%d" % number))
            equal(delivery.remote_state, Delivery.ACCEPTED)
        collector = Collector(50, accept)
        consuming = await made.connection()
        await consuming.dial()
        consumer = await consuming.consumer(address, message_handler=collector)
        with contextlib.suppress(Enough):
            await asyncio.wait_for(consumer.run(), 60)
        equal(bodies(collector.came), [b"%d" % number for number in range(50)])
        await consumer.close()
        equal((await management.queue_info(name)).message_count, 0)
        await management.delete_queue(name)


@case_of_its_own
def conditions_of_what_is_not_there():
    with environment() as made:
        connection = dial(made)
        try:
            connection.consumer(AddressHelper.queue_address(unique("none")))
        except LinkDetached as told:
            equal(told.condition, "amqp:not-found")
        else:
            raise AssertionError("a consumer of no queue")
        # The connection is well.
        queue_of(connection.management())
    # By itself the client would try that again for minutes.
    once = RecoveryConfiguration(active_recovery=False)
    try:
        Environment(uri=uri("/nowhere"), recovery_configuration=once).connection().dial()
    except ConnectionException as told:
        equal("amqp:not-found" in str(told), True, str(told))
    else:
        raise AssertionError("a virtual host that is not there")
