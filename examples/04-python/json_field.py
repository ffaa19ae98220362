"""An exchange type in Python: `x-json-field`.

A message goes to the bindings whose key is the value of one field of its JSON body. Which field, the
exchange's argument `field` says: `customer.country` is `country` within `customer`. A message without
that field is unroutable, as is one that is not JSON or has more than 64 KiB.
"""

import json

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports.exchange_type import (
    Declaration,
    Decision_Deliver,
    Description,
    ExchangeTypeDescription,
    Opened,
)
from wit_world.imports.types import (
    AboveLimit,
    ArgumentDescription,
    ArgumentKind,
    Binding,
    BodyReading,
    HeaderSelection_None_,
    Message,
    Reads,
    Refusal_InvalidArgument,
    Refusal_Other,
)

BODY_BYTES_MAX = 64 * 1024

# The body alone; what is not declared here arrives empty.
READS = Reads(
    routing_key=False,
    headers=HeaderSelection_None_(),
    properties=[],
    body=BodyReading(BODY_BYTES_MAX, AboveLimit.ABSENT),
    publisher=False,
    exchange=False,
    queue=False,
    reason=False,
)


class Exchange:
    """One declared exchange."""

    def __init__(self, path: list[str]):
        self.path = path
        self.ids: dict[str, list[int]] = {}
        self.keys: dict[int, str] = {}

    def bind(self, binding_id: int, key: str) -> None:
        self.ids.setdefault(key, []).append(binding_id)
        self.keys[binding_id] = key

    def unbind(self, binding_id: int) -> None:
        key = self.keys.pop(binding_id)
        self.ids[key].remove(binding_id)
        if not self.ids[key]:
            del self.ids[key]

    def route(self, body: bytes) -> list[int]:
        try:
            value = json.loads(body)
            for name in self.path:
                value = value[name]
        except (ValueError, KeyError, TypeError, RecursionError):
            return []
        return self.ids.get(as_key(value), [])


def as_key(value: object) -> str | None:
    """What a binding key must be to match this value: a text itself, else the value in JSON."""
    if isinstance(value, (dict, list)):
        return None
    return value if isinstance(value, str) else json.dumps(value)


# The host numbers the exchanges and says the number with each call.
EXCHANGES: dict[int, Exchange] = {}


class ExchangeType(exports.ExchangeType):
    def describe(self) -> Description:
        field = ArgumentDescription(
            "field", ArgumentKind.TEXT, True, "Which field of the body: names, with dots between them"
        )
        return Description(
            version="1.0.0",
            exchange_types=[
                ExchangeTypeDescription(
                    name="x-json-field",
                    summary="By the value of a field of the JSON body",
                    arguments=[field],
                    binding_arguments=[],
                    # The same body always goes to the same bindings, so the broker may remember it.
                    pure=True,
                    # A binding neither takes messages from another nor gives it any.
                    independent_bindings=True,
                    single_writer=False,
                    stage=None,
                )
            ],
        )

    def open(self, exchange: int, declaration: Declaration) -> Opened:
        # The host has checked that it is there, and a text.
        field = next(a.value.value for a in declaration.arguments if a.name == b"field")
        path = field.split(".")
        if "" in path:
            raise Err(Refusal_InvalidArgument(("field", f"a name between dots is empty in '{field}'")))
        EXCHANGES[exchange] = Exchange(path)
        return Opened(READS, inner=None, bindings=True)

    def close(self, exchange: int) -> None:
        del EXCHANGES[exchange]

    def bind(self, exchange: int, bindings: list[Binding]) -> Reads:
        # All are checked before any is taken: a refusal must leave none of them behind.
        try:
            keys = [(binding.id, binding.routing_key.decode()) for binding in bindings]
        except UnicodeDecodeError:
            raise Err(Refusal_Other("the binding key is not UTF-8, so it equals no JSON value"))
        for binding_id, key in keys:
            EXCHANGES[exchange].bind(binding_id, key)
        return READS

    def unbind(self, exchange: int, ids: list[int]) -> Reads:
        for binding_id in ids:
            EXCHANGES[exchange].unbind(binding_id)
        return READS

    def route(self, exchange: int, message: Message) -> Decision_Deliver:
        return Decision_Deliver(EXCHANGES[exchange].route(message.body or b""))
