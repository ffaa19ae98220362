"""The application of Celery's that `jobs` tests, and its worker.

    AMQP_URL=... python tasks.py QUEUE '{"x-queue-type": "quorum"}'
"""

import json
import os
import signal
import sys
import time

import pika
from celery import Celery
from kombu import Exchange, Queue

URL = os.environ["AMQP_URL"]


def application(queue, arguments):
    """With one queue, which has these arguments. Results come back by `rpc://`."""
    # A type of exchange with which Celery's own delays work.
    bound = Queue(queue, Exchange(queue, type="topic"), routing_key=queue, queue_arguments=arguments)
    app = Celery("tasks", broker=URL.replace("amqp:", "pyamqp:"), backend="rpc://")
    app.conf.update(
        task_queues=[bound], task_default_queue=queue, task_default_exchange=queue, task_default_routing_key=queue,
        task_default_exchange_type="topic", task_acks_late=True, worker_prefetch_multiplier=1,
        broker_native_delayed_delivery_queue_type=arguments.get("x-queue-type", "classic"),
        broker_transport_options={"confirm_publish": True}, broker_connection_retry_on_startup=True,
        worker_enable_remote_control=False, task_create_missing_queues=False,
    )

    @app.task(name="add", shared=False)
    def add(one, other):
        return one + other

    @app.task(name="clock", shared=False)
    def clock():
        return time.time()

    @app.task(name="note", shared=False)
    def note(place, text):
        write_note(place, text)

    @app.task(name="third_time", shared=False, bind=True)
    def third_time(self):
        if self.request.retries < 2:
            raise self.retry(countdown=0, max_retries=2)
        return self.request.retries

    @app.task(name="killed_once", shared=False, bind=True)
    def killed_once(self, place):
        if self.request.delivery_info["redelivered"]:
            return "done again"
        write_note(place, "begun")
        # Until it is killed.
        while True:
            signal.pause()

    return app


def write_note(place, text):
    """Tells the case something, by a queue."""
    connection = pika.BlockingConnection(pika.URLParameters(URL))
    channel = connection.channel()
    channel.confirm_delivery()
    channel.basic_publish("", place, text.encode(), mandatory=True)
    connection.close()


if __name__ == "__main__":
    application(sys.argv[1], json.loads(sys.argv[2])).worker_main(
        ["--quiet", "worker", "--concurrency=1", "--loglevel=warning", "--without-gossip", "--without-mingle"]
    )
