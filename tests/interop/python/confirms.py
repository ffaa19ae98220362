"""pika's publisher confirms under load: by connections that wait for each, and by one that waits for none."""

import threading

import pika
from pika.exceptions import NackError, UnroutableError

from harness import (
    EVENT_WAIT_MAX, await_that, case, case_of_its_own, connect, consume_until, counts, drain, equal, outage, own_queue,
    parameters, unique,
)

PERSISTENT = pika.BasicProperties(delivery_mode=2)


class Publisher:
    """A SelectConnection that publishes numbers, `window` of them unconfirmed, and knows which were confirmed.

    `outages` are brought about meanwhile, each on a connection of its own, evenly over all messages.
    """

    def __init__(self, queue, messages, window, acks_what_it_consumes=False, outages=()):
        self.queue, self.messages, self.window = queue, messages, window
        self.acks_what_it_consumes, self.outages, self.brought_about = acks_what_it_consumes, outages, 0
        self.waiting = list(reversed(range(messages)))
        self.unconfirmed = {}
        self.acked, self.nacked, self.consumed = set(), set(), []
        self.failure = None

    def run(self):
        """Connects, and publishes until all is confirmed or the connection is lost."""
        self.next_tag, self.outage = 1, None
        self.connection = pika.SelectConnection(
            parameters(), on_open_callback=lambda connection: connection.channel(on_open_callback=self.on_channel),
            on_open_error_callback=self.on_closed, on_close_callback=self.on_closed,
        )
        self.timer = self.connection.ioloop.call_later(3 * EVENT_WAIT_MAX, self.on_late)
        self.connection.ioloop.start()
        if self.outage:
            self.outage.join()
        if self.failure:
            raise self.failure
        # What was under way is published once more: whether it arrived is not known.
        self.waiting.extend(reversed(self.unconfirmed.values()))
        self.unconfirmed.clear()

    def is_done(self):
        done = len(self.acked) + len(self.nacked) == self.messages
        return done and (not self.acks_what_it_consumes or len(self.consumed) == self.messages)

    def on_channel(self, channel):
        self.channel = channel
        channel.confirm_delivery(self.on_confirm, callback=lambda _: self.publish())
        if self.acks_what_it_consumes:
            channel.basic_qos(prefetch_count=100)
            channel.basic_consume(self.queue, self.on_message)

    def publish(self):
        while self.waiting and len(self.unconfirmed) < self.window:
            number = self.waiting.pop()
            self.unconfirmed[self.next_tag] = number
            self.next_tag += 1
            self.channel.basic_publish("", self.queue, b"%d" % number, PERSISTENT, mandatory=True)

    def on_confirm(self, frame):
        method = frame.method
        into = self.acked if isinstance(method, pika.spec.Basic.Ack) else self.nacked
        tags = [method.delivery_tag]
        if method.multiple:
            tags = [tag for tag in self.unconfirmed if tag <= method.delivery_tag]
        # One that was confirmed before is not there any more.
        into.update(self.unconfirmed.pop(tag) for tag in tags)
        self.bring_outage()
        self.go_on()

    def on_message(self, channel, method, _, body):
        self.consumed.append(int(body))
        channel.basic_ack(method.delivery_tag)
        self.go_on()

    def bring_outage(self):
        begun = self.brought_about
        due = begun < len(self.outages) and len(self.acked) * (len(self.outages) + 1) >= self.messages * (begun + 1)
        if due and self.outage is None:
            self.brought_about += 1
            self.outage = threading.Thread(target=outage, args=(self.outages[begun],))
            self.outage.start()

    def go_on(self):
        if not self.is_done():
            self.publish()
        elif self.outage is None:
            self.connection.close()

    def on_late(self):
        self.failure = AssertionError(f"{len(self.acked)} acked, {len(self.nacked)} nacked of {self.messages}")
        self.connection.ioloop.stop()

    def on_closed(self, *_):
        self.connection.ioloop.remove_timeout(self.timer)
        self.connection.ioloop.stop()


def published(queue, messages, window, **options):
    """All is published on one connection, and answered."""
    publisher = Publisher(queue, messages, window, **options)
    publisher.run()
    assert publisher.is_done(), "the connection was lost"
    return publisher


def taken(connection, queue):
    """The numbers that are in a queue, which is deleted then."""
    channel = connection.channel()
    count, _ = counts(channel, queue)
    _, deliveries = consume_until(connection, channel, queue, count, auto_ack=True)
    channel.queue_delete(queue)
    return [int(body) for _, _, body in deliveries]


@case_of_its_own
def many_connections_that_wait_for_each():
    publishers, messages = 8, 100
    name = unique("waited-for")
    failures = []

    def publish(publisher):
        try:
            with connect() as connection:
                channel = connection.channel()
                channel.confirm_delivery()
                for number in range(messages):
                    channel.basic_publish("", name, b"%d %d" % (publisher, number), PERSISTENT, mandatory=True)
        except Exception as error:  # The case fails, and not the thread alone.
            failures.append(error)

    with connect() as connection:
        channel = connection.channel()
        channel.queue_declare(name, durable=True)
        threads = [threading.Thread(target=publish, args=(publisher,)) for publisher in range(publishers)]
        for thread in threads:
            thread.start()
        came = []
        channel.basic_qos(prefetch_count=50)

        def on_message(channel, method, _, body):
            came.append(body)
            channel.basic_ack(method.delivery_tag)

        channel.basic_consume(name, on_message)
        await_that(connection, lambda: failures or len(came) == publishers * messages, "all messages")
        for thread in threads:
            thread.join()
        equal(failures, [], "failures")
        for publisher in range(publishers):
            numbers = [int(number) for who, number in map(bytes.split, came) if int(who) == publisher]
            equal(numbers, list(range(messages)), f"what publisher {publisher} sent")
        channel.queue_delete(name)


@case
def one_that_waits_is_told_of_each_that_is_refused_or_returned(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    queue = own_queue(channel, arguments={"x-max-length": 10, "x-overflow": "reject-publish"})
    told = {"acked": 0, "refused": 0, "returned": 0}
    for number in range(300):
        to = unique("nobody") if number % 3 == 0 else queue
        try:
            channel.basic_publish("", to, b"%d" % number, PERSISTENT, mandatory=True)
        except NackError:
            told["refused"] += 1
        except UnroutableError:
            told["returned"] += 1
        else:
            told["acked"] += 1
    equal(told, {"acked": 10, "refused": 190, "returned": 100}, "what it was told")
    equal(len(drain(channel, queue)), 10, "what was taken")


@case
def one_that_does_not_wait_has_each_confirmed_once(connection):
    for arguments in ({}, {"x-queue-type": "quorum"}):
        queue = unique("window")
        connection.channel().queue_declare(queue, durable=True, arguments=arguments)
        publisher = published(queue, 20_000, 1_000)
        equal((len(publisher.acked), publisher.nacked), (20_000, set()), "confirms")
        equal(taken(connection, queue), list(range(20_000)), "what came")


@case
def what_a_full_queue_refuses_is_told_by_number(connection):
    queue, arguments = unique("full"), {"x-max-length": 1_000, "x-overflow": "reject-publish"}
    connection.channel().queue_declare(queue, durable=True, arguments=arguments)
    publisher = published(queue, 5_000, 500)
    equal((len(publisher.acked), len(publisher.nacked)), (1_000, 4_000), "acked and nacked")
    equal(set(taken(connection, queue)), publisher.acked, "what was taken")


@case
def one_connection_publishes_and_consumes_what_it_publishes(connection):
    queue = unique("both")
    connection.channel().queue_declare(queue, durable=True)
    publisher = published(queue, 10_000, 500, acks_what_it_consumes=True)
    equal(publisher.consumed, list(range(10_000)), "what came")
    equal(taken(connection, queue), [], "what is left")


@case_of_its_own
def nothing_confirmed_is_lost_in_outages():
    queue = unique("outages")
    with connect() as connection:
        connection.channel().queue_declare(queue, durable=True)
    publisher, runs = Publisher(queue, 10_000, 500, outages=("cut", "kill", "cut")), 0
    while not publisher.is_done():
        publisher.run()
        runs += 1
    equal((publisher.brought_about, runs >= 3, publisher.nacked), (3, True, set()), "outages, connections, refusals")
    with connect() as connection:
        equal(sorted(publisher.acked - set(taken(connection, queue))), [], "confirmed and lost")
