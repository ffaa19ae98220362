"""TLS: a password through it, and a certificate instead of a password.

TLS_PORT names the port, TLS_CA, TLS_CERTIFICATE and TLS_KEY the files of the authority and of the user alice.
"""

import os
import ssl

import pika
from pika.credentials import ExternalCredentials
from pika.exceptions import AMQPConnectionError

from harness import case, connect


def options(with_certificate):
    context = ssl.create_default_context(cafile=os.environ["TLS_CA"])
    if with_certificate:
        context.load_cert_chain(os.environ["TLS_CERTIFICATE"], os.environ["TLS_KEY"])
    return {"port": int(os.environ["TLS_PORT"]), "ssl_options": pika.SSLOptions(context, "localhost")}


def exchange_messages(connection):
    channel = connection.channel()
    queue = channel.queue_declare("", exclusive=True).method.queue
    channel.confirm_delivery()
    body = os.urandom(1_000_000)
    for _ in range(5):
        channel.basic_publish("", queue, body)
    for _ in range(5):
        assert channel.basic_get(queue, auto_ack=True)[2] == body


@case
def messages_go_through_tls(_connection):
    with connect(**options(with_certificate=False)) as connection:
        exchange_messages(connection)


@case
def a_certificate_is_as_good_as_a_password(_connection):
    with connect(credentials=ExternalCredentials(), **options(with_certificate=True)) as connection:
        exchange_messages(connection)


@case
def without_a_certificate_it_is_not(_connection):
    try:
        with connect(credentials=ExternalCredentials(), **options(with_certificate=False)):
            raise AssertionError("it was let in")
    except AMQPConnectionError:
        pass
