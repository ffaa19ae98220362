"""The four types with their edge cases, bindings between exchanges, alternate exchanges."""

from pika.exceptions import ChannelClosedByBroker, UnroutableError

import pika
from harness import case, drain, equal, own_exchange, own_queue, routing_cases, unique


def confirming(connection):
    channel = connection.channel()
    channel.confirm_delivery()
    return channel


def is_there(connection, exchange):
    channel = connection.channel()
    try:
        channel.exchange_declare(exchange, passive=True)
    except ChannelClosedByBroker as closed:
        equal(closed.reply_code, 404)
        return False
    channel.close()
    return True


def check_routes(channel, exchange, queues, routes):
    for route in routes:
        channel.basic_publish(exchange, route["key"], b"x")
        found = {name: len(drain(channel, queue)) for name, queue in queues.items()}
        wanted = {name: int(name in route["queues"]) for name in queues}
        equal(found, wanted, f"copies for the key {route['key']!r}")


@case
def topic_table(connection):
    table = routing_cases("topic.json")
    channel = confirming(connection)
    exchange = unique("topic")
    channel.exchange_declare(exchange, "topic")
    queues = {name: own_queue(channel) for name in dict.fromkeys(row["queue"] for row in table["bindings"])}
    for row in table["bindings"]:
        channel.queue_bind(queues[row["queue"]], exchange, row["pattern"], row.get("arguments"))
    check_routes(channel, exchange, queues, table["routes"])
    for index in table["unbind"]:
        row = table["bindings"][index]
        channel.queue_unbind(queues[row["queue"]], exchange, row["pattern"], row.get("arguments"))
    check_routes(channel, exchange, queues, table["routes_after"])
    channel.exchange_delete(exchange)
    channel.exchange_declare(exchange, "topic", auto_delete=True)
    check_routes(channel, exchange, queues, [{"key": "a.b", "queues": []}])
    channel.exchange_delete(exchange)


@case
def headers_table(connection):
    channel = confirming(connection)
    for row in routing_cases("headers.json")["cases"]:
        exchange, queue = own_exchange(channel, "headers"), own_queue(channel)
        channel.queue_bind(queue, exchange, "ignored", row["arguments"])
        properties = pika.BasicProperties(headers=row["headers"]) if row["headers"] is not None else None
        channel.basic_publish(exchange, "another", b"x", properties)
        equal(drain(channel, queue), [b"x"] if row["routed"] else [], row["name"])
        channel.exchange_delete(exchange)


@case
def headers_refuses_another_x_match(connection):
    for value in ("none", 1, True):
        channel = connection.channel()
        queue, exchange = own_queue(channel), own_exchange(channel, "headers")
        try:
            channel.queue_bind(queue, exchange, "", {"x-match": value})
        except ChannelClosedByBroker as closed:
            equal(closed.reply_code, 406)
        else:
            raise AssertionError(f"x-match={value!r} was accepted")


@case
def direct_matches_the_whole_key(connection):
    channel = confirming(connection)
    exchange = own_exchange(channel, "direct")
    exact, other, both = (own_queue(channel) for _ in range(3))
    channel.queue_bind(exact, exchange, "key")
    channel.queue_bind(other, exchange, "key.more")
    channel.queue_bind(both, exchange, "key")
    channel.queue_bind(both, exchange, "#")
    channel.basic_publish(exchange, "key", b"x")
    equal([drain(channel, queue) for queue in (exact, other, both)], [[b"x"], [], [b"x"]])
    channel.basic_publish(exchange, "KEY", b"x")
    equal([drain(channel, queue) for queue in (exact, other, both)], [[], [], []])


@case
def direct_with_an_empty_key(connection):
    channel = confirming(connection)
    exchange, queue = own_exchange(channel, "direct"), own_queue(channel)
    keyed = own_queue(channel)
    channel.queue_bind(keyed, exchange, "key")
    # Of both names empty only the last declared queue would lend its name to the key.
    channel.queue_bind(queue, exchange, "")
    channel.basic_publish(exchange, "", b"x")
    equal(drain(channel, queue), [b"x"])


@case
def fanout_ignores_the_key(connection):
    channel = confirming(connection)
    exchange = own_exchange(channel, "fanout")
    queues = [own_queue(channel) for _ in range(3)]
    for number, queue in enumerate(queues):
        channel.queue_bind(queue, exchange, str(number))
    channel.basic_publish(exchange, "whatever", b"x")
    equal([drain(channel, queue) for queue in queues], [[b"x"]] * 3)


@case
def the_same_binding_twice_is_one(connection):
    channel = confirming(connection)
    exchange, queue = own_exchange(channel, "direct"), own_queue(channel)
    keeper = own_queue(channel)
    channel.queue_bind(keeper, exchange, "other")
    for _ in range(2):
        channel.queue_bind(queue, exchange, "key")
    channel.basic_publish(exchange, "key", b"x")
    equal(drain(channel, queue), [b"x"])
    channel.queue_unbind(queue, exchange, "key")
    channel.basic_publish(exchange, "key", b"x")
    equal(drain(channel, queue), [])


@case
def arguments_make_another_binding(connection):
    channel = confirming(connection)
    for kind in ("direct", "fanout"):
        exchange, queue = own_exchange(channel, kind), own_queue(channel)
        channel.queue_bind(queue, exchange, "key", {"a": 1})
        channel.queue_bind(queue, exchange, "key", {"a": 2})
        channel.basic_publish(exchange, "key", b"x")
        equal(drain(channel, queue), [b"x"], kind)
        channel.queue_unbind(queue, exchange, "key", {"a": 1})
        channel.basic_publish(exchange, "key", b"x")
        equal(drain(channel, queue), [b"x"], kind)


@case
def two_matching_bindings_give_one_copy(connection):
    channel = confirming(connection)
    exchange, queue = own_exchange(channel, "topic"), own_queue(channel)
    for pattern in ("a.*", "*.b", "#"):
        channel.queue_bind(queue, exchange, pattern)
    channel.basic_publish(exchange, "a.b", b"x")
    equal(drain(channel, queue), [b"x"])


@case
def default_exchange_routes_by_queue_name(connection):
    channel = confirming(connection)
    queue = own_queue(channel)
    channel.basic_publish("", queue, b"x")
    equal(drain(channel, queue), [b"x"])


@case
def predeclared_exchanges_are_there(connection):
    for name, kind in (("amq.direct", "direct"), ("amq.fanout", "fanout"), ("amq.topic", "topic"),
                       ("amq.headers", "headers"), ("amq.match", "headers")):
        connection.channel().exchange_declare(name, kind, durable=True)


@case
def exchange_to_exchange(connection):
    channel = confirming(connection)
    source, destination = unique("source"), unique("destination")
    channel.exchange_declare(source, "topic")
    channel.exchange_declare(destination, "direct")
    queue, other = own_queue(channel), own_queue(channel)
    channel.exchange_bind(destination, source, "a.*")
    channel.queue_bind(queue, destination, "a.b")
    channel.queue_bind(other, destination, "a.c")
    channel.basic_publish(source, "a.b", b"x")
    equal((drain(channel, queue), drain(channel, other)), ([b"x"], []))
    channel.exchange_unbind(destination, source, "a.*")
    channel.basic_publish(source, "a.b", b"x")
    equal(drain(channel, queue), [])
    channel.exchange_delete(source)
    channel.exchange_delete(destination)


@case
def two_paths_give_one_copy(connection):
    channel = confirming(connection)
    source, left, right = (unique("path") for _ in range(3))
    for name in (source, left, right):
        channel.exchange_declare(name, "fanout")
    queue = own_queue(channel)
    for name in (left, right):
        channel.exchange_bind(name, source)
        channel.queue_bind(queue, name)
    channel.queue_bind(queue, source)
    channel.basic_publish(source, "", b"x")
    equal(drain(channel, queue), [b"x"])
    for name in (source, left, right):
        channel.exchange_delete(name)


@case
def a_cycle_ends(connection):
    channel = confirming(connection)
    names = [unique("cycle") for _ in range(3)]
    for name in names:
        channel.exchange_declare(name, "fanout")
    queues = [own_queue(channel) for _ in names]
    for place, name in enumerate(names):
        channel.exchange_bind(names[(place + 1) % 3], name)
        channel.queue_bind(queues[place], name)
    channel.basic_publish(names[1], "", b"x")
    equal([drain(channel, queue) for queue in queues], [[b"x"]] * 3)
    for name in names:
        channel.exchange_delete(name)


@case
def deleting_the_source_removes_its_bindings(connection):
    channel = confirming(connection)
    source, destination = unique("source"), unique("destination")
    channel.exchange_declare(source, "fanout")
    channel.exchange_declare(destination, "fanout", auto_delete=True)
    queue = own_queue(channel)
    channel.exchange_bind(destination, source)
    channel.queue_bind(queue, destination)
    channel.exchange_delete(source)
    channel.exchange_declare(source, "fanout")
    channel.basic_publish(source, "", b"x")
    equal(drain(channel, queue), [])
    channel.basic_publish(destination, "", b"y")
    equal(drain(channel, queue), [b"y"])
    channel.exchange_delete(source)


@case
def auto_delete_goes_with_the_last_binding(connection):
    channel = connection.channel()
    name, queue = unique("auto-delete"), own_queue(channel)
    channel.exchange_declare(name, "direct", auto_delete=True)
    assert is_there(connection, name)
    channel.queue_bind(queue, name, "a")
    channel.queue_bind(queue, name, "b")
    channel.queue_unbind(queue, name, "a")
    assert is_there(connection, name)
    channel.queue_unbind(queue, name, "b")
    assert not is_there(connection, name)


@case
def auto_delete_goes_with_its_last_queue(connection):
    channel = connection.channel()
    name, queue = unique("auto-delete"), own_queue(channel)
    channel.exchange_declare(name, "direct", auto_delete=True)
    channel.queue_bind(queue, name, "a")
    channel.queue_delete(queue)
    assert not is_there(connection, name)


@case
def alternate_exchange_takes_the_unroutable(connection):
    channel = confirming(connection)
    alternate, first = unique("alternate"), unique("first")
    channel.exchange_declare(alternate, "fanout")
    channel.exchange_declare(first, "direct", arguments={"alternate-exchange": alternate})
    routed, caught = own_queue(channel), own_queue(channel)
    channel.queue_bind(routed, first, "known")
    channel.queue_bind(caught, alternate)
    channel.basic_publish(first, "known", b"1")
    channel.basic_publish(first, "unknown", b"2", mandatory=True)
    equal(drain(channel, routed), [b"1"])
    method, _, body = channel.basic_get(caught, auto_ack=True)
    equal((method.exchange, method.routing_key, body), (first, "unknown", b"2"))
    equal(drain(channel, caught), [])
    for name in (first, alternate):
        channel.exchange_delete(name)


def expect_returned(channel, exchange, key):
    try:
        channel.basic_publish(exchange, key, b"x", mandatory=True)
    except UnroutableError as error:
        (returned,) = error.messages
        equal((returned.method.reply_code, returned.method.exchange), (312, exchange))
    else:
        raise AssertionError("nothing was returned")


@case
def alternate_exchanges_chain_and_end(connection):
    channel = confirming(connection)
    names = [unique("chain") for _ in range(3)]
    for place, name in enumerate(names):
        following = {"alternate-exchange": names[(place + 1) % 3]}
        channel.exchange_declare(name, "direct", arguments=following)
    expect_returned(channel, names[0], "key")
    queue = own_queue(channel)
    channel.queue_bind(queue, names[2], "key")
    channel.basic_publish(names[0], "key", b"x", mandatory=True)
    equal(drain(channel, queue), [b"x"])
    for name in names:
        channel.exchange_delete(name)


@case
def absent_alternate_exchange_is_none(connection):
    channel = confirming(connection)
    name = unique("first")
    channel.exchange_declare(name, "direct", arguments={"alternate-exchange": unique("absent")})
    expect_returned(channel, name, "key")
    channel.basic_publish(name, "key", b"x")
    channel.exchange_delete(name)


@case
def internal_exchange_is_reached_by_binding(connection):
    channel = confirming(connection)
    source, inside = unique("source"), unique("internal")
    channel.exchange_declare(source, "fanout")
    channel.exchange_declare(inside, "fanout", internal=True)
    queue = own_queue(channel)
    channel.exchange_bind(inside, source)
    channel.queue_bind(queue, inside)
    channel.basic_publish(source, "", b"x")
    equal(drain(channel, queue), [b"x"])
    for name in (source, inside):
        channel.exchange_delete(name)


@case
def delete_of_what_is_not_there(connection):
    connection.channel().exchange_delete(unique("absent"))


@case
def a_binding_counts_from_bind_ok(connection):
    channel = confirming(connection)
    exchange, queue = own_exchange(channel, "topic"), own_queue(channel)
    keeper = own_queue(channel)
    channel.queue_bind(keeper, exchange, "keep")
    for number in range(100):
        channel.basic_publish(exchange, "a.b", b"unbound")
        channel.queue_bind(queue, exchange, "a.*")
        channel.basic_publish(exchange, "a.b", str(number).encode())
        channel.queue_unbind(queue, exchange, "a.*")
    equal(drain(channel, queue), [str(number).encode() for number in range(100)])
