"""aio-pika's robust connections: what they held goes on after an outage. What pika is told."""

import asyncio
import logging

import aio_pika
from pika.exceptions import ConnectionClosedByBroker

from harness import URL, await_that, case_of_its_own, connect, equal, outage, own_queue, unique

# The clients tell of each outage at length.
logging.disable(logging.ERROR)

#: Seconds between two attempts to connect.
RECONNECT_INTERVAL = 0.1


async def robust():
    return await aio_pika.connect_robust(URL, reconnect_interval=RECONNECT_INTERVAL, heartbeat=10)


class Recovery:
    """The next time that a connection has everything back."""

    def __init__(self, connection):
        self.event = asyncio.Event()
        connection.reconnect_callbacks.add(lambda *_: self.event.set(), weak=False)

    async def after(self, kind):
        self.event.clear()
        await asyncio.to_thread(outage, kind)
        await self.event.wait()


async def collector(queue, **options):
    """Consumes; gives the asyncio queue of what comes."""
    came = asyncio.Queue()
    await queue.consume(came.put, **options)
    return came


def persistent(body):
    return aio_pika.Message(body, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)


@case_of_its_own
async def a_consumer_goes_on_after_a_cut():
    async with await robust() as connection:
        recovery = Recovery(connection)
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=1)
        queue = await channel.declare_queue(unique("cut"), durable=True)
        came = await collector(queue)
        for number in range(3):
            await channel.default_exchange.publish(persistent(b"%d" % number), queue.name)
            message = await came.get()
            equal((message.body, message.redelivered), (b"%d" % number, False), "the delivery")
            await message.ack()
            # What is acknowledged before it is answered is gone for good.
            await channel.declare_queue(queue.name, passive=True)
            await recovery.after("cut")
        await queue.delete(if_unused=False, if_empty=False)


@case_of_its_own
async def what_was_not_acknowledged_comes_again():
    async with await robust() as connection:
        recovery = Recovery(connection)
        channel = await connection.channel()
        queue = await channel.declare_queue(unique("again"), durable=True)
        came = await collector(queue)
        for body in (b"1", b"2"):
            await channel.default_exchange.publish(persistent(body), queue.name)
        first, second = await came.get(), await came.get()
        await second.ack()
        # What is acknowledged before it is answered is gone for good.
        await channel.declare_queue(queue.name, passive=True)
        await recovery.after("cut")
        again = await came.get()
        equal((again.body, again.redelivered), (first.body, True), "the delivery")
        await again.ack()
        await queue.delete(if_unused=False, if_empty=False)


@case_of_its_own
async def exclusive_queues_and_their_bindings_are_made_again():
    async with await robust() as connection:
        recovery = Recovery(connection)
        channel = await connection.channel()
        exchange = await channel.declare_exchange(unique("topic"), "topic", auto_delete=True)
        # By a name of its own: the queue of the connection that was cut must not stand in the way.
        queue = await channel.declare_queue(unique("exclusive"), exclusive=True)
        await queue.bind(exchange, "a.*")
        came = await collector(queue, no_ack=True, exclusive=True)
        for number in range(5):
            await exchange.publish(aio_pika.Message(b"%d" % number), "a.b")
            equal((await came.get()).body, b"%d" % number, "the delivery")
            await recovery.after("cut")


@case_of_its_own
async def a_restart_keeps_what_is_durable():
    async with await robust() as connection:
        recovery = Recovery(connection)
        channel = await connection.channel()
        exchange = await channel.declare_exchange(unique("direct"), "direct", durable=True)
        queue = await channel.declare_queue(unique("kept"), durable=True, arguments={"x-queue-type": "quorum"})
        await queue.bind(exchange, "key")
        for kind in ("restart", "kill"):
            await exchange.publish(persistent(kind.encode()), "key")
            await recovery.after(kind)
            message = await queue.get(timeout=30)
            equal(message.body, kind.encode(), "what is kept")
            await message.ack()
        await queue.delete(if_unused=False, if_empty=False)
        await exchange.delete()


@case_of_its_own
async def nothing_confirmed_is_lost_in_outages_under_load():
    messages = 3000
    async with await robust() as connection:
        recovery = Recovery(connection)
        channel = await connection.channel()
        queue = await channel.declare_queue(unique("load"), durable=True)
        confirmed = set()
        window = asyncio.Semaphore(500)

        async def publish(number):
            async with window:
                while number not in confirmed:
                    try:
                        await channel.default_exchange.publish(persistent(b"%d" % number), queue.name, timeout=20)
                    except (aio_pika.exceptions.AMQPError, ConnectionError, asyncio.TimeoutError, RuntimeError):
                        # Whether it arrived is not known: once more, when there is a connection.
                        await asyncio.sleep(RECONNECT_INTERVAL)
                    else:
                        confirmed.add(number)

        publishing = asyncio.gather(*(publish(number) for number in range(messages)))
        for kind, so_far in (("cut", messages // 6), ("kill", messages // 3), ("cut", messages // 2)):
            while len(confirmed) < so_far:
                await asyncio.sleep(0)
            await recovery.after(kind)
        await publishing
        equal(len(confirmed), messages, "confirmed")
        found = set()
        while (message := await queue.get(no_ack=True, fail=False, timeout=30)) is not None:
            found.add(int(message.body))
        equal(sorted(confirmed - found), [], "confirmed and lost")
        await queue.delete(if_unused=False, if_empty=False)


@case_of_its_own
async def a_consumer_that_the_broker_cancels_comes_back():
    async with await robust() as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(unique("cancelled"), durable=True)
        came = await collector(queue, no_ack=True)
        cancelled = asyncio.Event()
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(lambda _: cancelled.set())
        other = await connection.channel(on_return_raises=True)
        await (await other.get_underlay_channel()).queue_delete(queue.name)
        await cancelled.wait()
        # The client declares the queue again and consumes; until then the message has nowhere to go.
        while came.empty():
            try:
                await other.default_exchange.publish(aio_pika.Message(b"x"), queue.name, mandatory=True)
            except aio_pika.exceptions.DeliveryError:
                await asyncio.sleep(RECONNECT_INTERVAL)
            else:
                equal((await came.get()).body, b"x", "the delivery")
                break
        await queue.delete(if_unused=False, if_empty=False)


class Heard(logging.Handler):
    """What a client says in its log."""

    def __init__(self, logger):
        super().__init__()
        self.lines = asyncio.Queue()
        logging.getLogger(logger).addHandler(self)

    def emit(self, record):
        self.lines.put_nowait(record.getMessage())

    async def that(self, part):
        while part not in await self.lines.get():
            pass


@case_of_its_own
async def publishes_wait_while_memory_is_short():
    logging.disable(logging.INFO)
    # Its log is where the client tells of it.
    heard = Heard("aiormq.connection")
    async with await robust() as connection, await robust() as other:
        queue = await (await other.channel()).declare_queue(exclusive=True)
        exchange = (await connection.channel()).default_exchange
        message = aio_pika.Message(bytes(256 << 10))
        publishing = asyncio.gather(*(exchange.publish(message, queue.name) for _ in range(100)))
        await heard.that("was blocked by: 'low on memory'")
        came = await collector(queue, no_ack=True)
        await heard.that("was unblocked")
        await publishing
        for _ in range(100):
            await came.get()
    logging.disable(logging.ERROR)


@case_of_its_own
def pika_is_told_that_it_is_blocked():
    told = []
    with connect() as connection, connect() as other:
        connection.add_on_connection_blocked_callback(lambda _, frame: told.append(frame.method.reason))
        connection.add_on_connection_unblocked_callback(lambda *_: told.append("unblocked"))
        channel, reader = connection.channel(), other.channel()
        queue, count, came = own_queue(reader), 0, []
        while not told:
            channel.basic_publish("", queue, bytes(256 << 10))
            count += 1
            assert count < 400, "it is never told"
            connection.process_data_events(time_limit=0)
        reader.basic_consume(queue, lambda *delivery: came.append(delivery[1].delivery_tag), auto_ack=True)
        await_that(other, lambda: len(came) == count, "all messages")
        # What was held back may have blocked it once more.
        await_that(connection, lambda: told[-1] == "unblocked", "connection.unblocked")
    equal(told[:2], ["low on memory", "unblocked"], "what it was told")


@case_of_its_own
def pika_is_told_why_and_may_declare_an_exclusive_queue_again():
    name = unique("exclusive")
    for _ in range(2):
        with connect() as connection:
            channel = connection.channel()
            channel.queue_declare(name, exclusive=True)
            channel.basic_consume(name, lambda *_: None, auto_ack=True, exclusive=True)
            outage("restart")
            try:
                await_that(connection, lambda: False, "the close")
            except ConnectionClosedByBroker as closed:
                why = "CONNECTION_FORCED - broker forced connection closure with reason 'shutdown'"
                equal((closed.reply_code, closed.reply_text), (320, why), "the close")
