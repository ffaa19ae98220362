"""Login, virtual hosts, heartbeats, many channels, frame sizes."""

import pika
from pika.exceptions import ProbableAccessDeniedError, ProbableAuthenticationError

from harness import case, connect, drain, equal, own_queue, parameters

LOGIN_REFUSED = (
    "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN. For details see the broker logfile."
)


def refused(error_type, code, text, **changes):
    try:
        pika.BlockingConnection(parameters(**changes)).close()
    except error_type as error:
        assert f"({code}) {text!r}" in str(error) or f'({code}) "{text}"' in str(error), str(error)
    else:
        raise AssertionError("the connection was opened")


@case
def opens_and_closes(connection):
    assert connection.is_open
    connection.close()
    assert connection.is_closed


@case
def wrong_password(_):
    credentials = pika.PlainCredentials("guest", "wrong")
    refused(ProbableAuthenticationError, 403, LOGIN_REFUSED, credentials=credentials)


@case
def unknown_user(_):
    credentials = pika.PlainCredentials("nobody", "guest")
    refused(ProbableAuthenticationError, 403, LOGIN_REFUSED, credentials=credentials)


@case
def unknown_virtual_host(_):
    refused(ProbableAccessDeniedError, 530, "NOT_ALLOWED - vhost nowhere not found", virtual_host="nowhere")


@case
def capabilities(connection):
    assert connection.basic_nack_supported
    assert connection.consumer_cancel_notify_supported
    assert connection.exchange_exchange_bindings_supported
    assert connection.publisher_confirms_supported


@case
def many_channels(connection):
    channels = [connection.channel() for _ in range(200)]
    queues = [own_queue(channel) for channel in channels]
    for number, (channel, queue) in enumerate(zip(channels, queues)):
        channel.confirm_delivery()
        channel.basic_publish("", queue, str(number).encode())
    for number, (channel, queue) in enumerate(zip(reversed(channels), queues)):
        equal(drain(channel, queue), [str(number).encode()], queue)
    for channel in channels[::2]:
        channel.close()
    for channel, queue in list(zip(channels, queues))[1::2]:
        equal(drain(channel, queue), [], queue)


@case
def a_closed_channel_number_is_used_again(connection):
    for _ in range(50):
        channel = connection.channel(7)
        own_queue(channel)
        channel.close()


@case
def idle_with_heartbeats(_):
    with connect(heartbeat=1) as connection:
        channel = connection.channel()
        queue = own_queue(channel)
        # Nothing but heartbeats for four intervals: without them either side would have given up.
        connection.process_data_events(time_limit=4)
        channel.basic_publish("", queue, b"still here")
        equal(drain(channel, queue), [b"still here"])


@case
def without_heartbeats(_):
    with connect(heartbeat=0) as connection:
        own_queue(connection.channel())


@case
def smallest_frames(_):
    with connect(frame_max=8192) as connection:
        channel = connection.channel()
        queue = own_queue(channel)
        channel.confirm_delivery()
        bodies = [bytes([number]) * size for number, size in enumerate((0, 1, 8184, 8185, 16368, 100_000))]
        for body in bodies:
            channel.basic_publish("", queue, body)
        equal(drain(channel, queue), bodies)


@case
def one_connection_does_not_end_another(connection):
    queue = own_queue(connection.channel())
    with connect() as other:
        other.channel()
    equal(drain(connection.channel(), queue), [])
