"""Celery and what is below it, kombu: delays, retries, priorities, and workers that are lost."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import kombu

import tasks
from harness import EVENT_WAIT_MAX, URL, await_that, case, case_of_its_own, connect, consume_until, equal, outage, own_queue, unique

TASKS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tasks.py")


class Jobs:
    """An application with a queue of its own, and workers while the case wants them."""

    def __init__(self, arguments):
        self.queue, self.arguments = unique("jobs"), arguments
        self.app = tasks.application(self.queue, arguments)

    def call(self, name, *arguments, **options):
        return self.app.tasks[name].apply_async(arguments, **options)

    @contextlib.contextmanager
    def worker(self):
        """A worker in processes of its own; they are killed at the end, if they still run."""
        process = subprocess.Popen(
            [sys.executable, "-B", TASKS, self.queue, json.dumps(self.arguments)], start_new_session=True
        )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def result(self, asked):
        return asked.get(timeout=2 * EVENT_WAIT_MAX)


@contextlib.contextmanager
def jobs(**arguments):
    made = Jobs(arguments)
    try:
        yield made
    finally:
        made.app.close()
        with connect() as connection:
            channel = connection.channel()
            channel.queue_delete(made.queue)
            channel.exchange_delete(made.queue)


@case
def a_hundred_results_come_back(_):
    with jobs() as made, made.worker():
        asked = [made.call("add", number, 1) for number in range(100)]
        equal([made.result(one) for one in asked], list(range(1, 101)), "the results")


@case
def retried_until_it_works(_):
    with jobs(**{"x-queue-type": "quorum"}) as made, made.worker():
        equal(made.result(made.call("third_time")), 2, "retries")


@case
def a_countdown_is_waited_for_by_the_worker(_):
    with jobs() as made, made.worker():
        asked_at = time.time()
        ran_at = made.result(made.call("clock", countdown=2))
        assert ran_at - asked_at >= 2, f"it ran {ran_at - asked_at} s later"


@case
def a_countdown_is_waited_for_by_the_broker(connection):
    with jobs(**{"x-queue-type": "quorum"}) as made:
        with made.worker():
            # The worker has declared the 28 levels when it answers.
            equal(made.result(made.call("add", 1, 2)), 3, "the sum")
        asked_at = time.time()
        # Binary 11: the second and the first level.
        asked = made.call("clock", countdown=3)
        waiting = connection.channel().queue_declare("celery_delayed_1", passive=True).method.message_count
        equal(waiting, 1, "messages in the second level")
        with made.worker():
            ran_at = made.result(asked)
        assert ran_at - asked_at >= 3, f"it ran {ran_at - asked_at} s later"


@case
def tasks_that_wait_in_the_worker_hold_up_no_others(_):
    # The worker has one task at a time, and asks for one more with each that waits.
    with jobs() as made, made.worker():
        for _ in range(5):
            made.call("clock", countdown=3600)
        equal(made.result(made.call("add", 1, 2)), 3, "the sum")


@case
def the_higher_priority_first(connection):
    with jobs(**{"x-max-priority": 9}) as made:
        channel = connection.channel()
        notes = own_queue(channel)
        made.app.amqp.queues[made.queue].declare(channel=made.app.connection_for_write().default_channel)
        for number, priority in enumerate((1, 9, 5, 9, None)):
            made.call("note", notes, f"{number} of {priority}", priority=priority)
        with made.worker():
            _, came = consume_until(connection, channel, notes, 5, auto_ack=True)
        equal([delivery[2] for delivery in came], [b"1 of 9", b"3 of 9", b"2 of 5", b"0 of 1", b"4 of None"], "notes")


@case
def the_task_of_a_killed_worker_is_done_again(connection):
    for kind in ("classic", "quorum"):
        with jobs(**{"x-queue-type": kind}) as made:
            channel = connection.channel()
            notes = own_queue(channel)
            asked = made.call("killed_once", notes)
            with made.worker():
                _, came = consume_until(connection, channel, notes, 1, auto_ack=True)
                equal([delivery[2] for delivery in came], [b"begun"], "notes")
            with made.worker():
                equal(made.result(asked), "done again", kind)


@case_of_its_own
def a_worker_goes_on_after_outages():
    notes = unique("notes")
    with jobs(**{"x-queue-type": "quorum"}) as made, made.worker():
        for kind in ("cut", "restart", "kill", None):
            with connect() as connection:
                channel = connection.channel()
                channel.queue_declare(notes, durable=True)
                made.call("note", notes, f"before {kind}")
                found = set()
                channel.basic_consume(notes, lambda *delivery: found.add(delivery[3]), auto_ack=True)
                # An earlier one may come again: its acknowledgement may have been lost with the connection.
                await_that(connection, lambda: f"before {kind}".encode() in found, f"the task before {kind}")
            if kind is not None:
                outage(kind)
    with connect() as connection:
        connection.channel().queue_delete(notes)


@case_of_its_own
def a_producer_of_kombu_goes_on_after_outages():
    with kombu.Connection(URL.replace("amqp:", "pyamqp:"), transport_options={"confirm_publish": True}) as connection:
        queue = kombu.Queue(unique("kombu"), kombu.Exchange(unique("kombu"), durable=True), routing_key="k")
        producer = connection.Producer(serializer="json")
        policy = {"max_retries": 50, "interval_start": 0.1, "interval_step": 0, "interval_max": 0.1}
        for number, kind in enumerate(("cut", "restart", "kill", "cut")):
            for place in range(50):
                producer.publish(
                    {"number": number, "place": place}, exchange=queue.exchange, routing_key="k", declare=[queue],
                    retry=True, retry_policy=policy,
                )
            outage(kind)
    found = []
    with kombu.Connection(URL) as connection:
        with connection.SimpleQueue(queue) as simple:
            for _ in range(200):
                message = simple.get(timeout=EVENT_WAIT_MAX)
                found.append((message.payload["number"], message.payload["place"]))
                message.ack()
        equal(sorted(set(found)), [(number, place) for number in range(4) for place in range(50)], "what was kept")
        queue(connection.default_channel).delete()
