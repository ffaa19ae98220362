"""An interceptor in Python: `default-header`.

Gives a message a header that it does not carry: `header` and `value` are arguments of the attachment.
"""

from wit_world import exports
from wit_world.exports.interceptor import (
    Attachment,
    Change_SetHeader,
    Description,
    InterceptorDescription,
    Point,
    Verdict,
    Verdict_Pass,
    Verdict_Patch,
)
from wit_world.imports.types import (
    ArgumentDescription,
    ArgumentKind,
    Field,
    HeaderSelection_Named,
    Message,
    Reads,
)

# What each attachment adds, by the number that the host gave the attachment.
DEFAULTS: dict[int, Field] = {}


class Interceptor(exports.Interceptor):
    def describe(self) -> Description:
        return Description(
            version="1.0.0",
            interceptors=[
                InterceptorDescription(
                    name="default-header",
                    summary="Gives a message a header that it does not carry",
                    points=[Point.PUBLISH, Point.DELIVER],
                    arguments=[
                        ArgumentDescription("header", ArgumentKind.TEXT, True, "The header's name"),
                        ArgumentDescription("value", ArgumentKind.ANY, True, "Its value"),
                    ],
                    pure=True,
                )
            ],
        )

    def open(self, attachment: int, declaration: Attachment) -> Reads:
        arguments = {argument.name: argument.value for argument in declaration.arguments}
        name = arguments[b"header"].value.encode()
        DEFAULTS[attachment] = Field(name, arguments[b"value"])
        # That header and no other: a message that carries it arrives with it, others with none.
        return Reads(
            routing_key=False,
            headers=HeaderSelection_Named([name]),
            properties=[],
            body=None,
            publisher=False,
            exchange=False,
            queue=False,
            reason=False,
        )

    def close(self, attachment: int) -> None:
        del DEFAULTS[attachment]

    def intercept(self, attachment: int, message: Message) -> Verdict:
        if message.headers:
            return Verdict_Pass()
        return Verdict_Patch([Change_SetHeader(DEFAULTS[attachment])])
