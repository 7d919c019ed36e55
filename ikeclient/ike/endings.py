"""Why a connection ends without anybody's fault in the profile, in the words of a person."""

from __future__ import annotations

from collections.abc import Iterable

from ikeclient.errors import IkeclientError, NegotiationRefused, NoResponse
from ikeclient.ike.events import IPAddress
from ikeclient.wire.registry import NotifyType


def no_answer(address: IPAddress, ports: Iterable[int]) -> NoResponse:
    """Nothing came back at all."""
    return NoResponse(
        f"no IKE answer from {address}",
        reason="nothing came back from UDP port " + " nor ".join(map(str, sorted(ports))),
        hint="check the address and the network; a firewall may block UDP 500 and 4500",
    )


def silent_during_auth(address: IPAddress, port: int) -> NoResponse:
    """IKE_SA_INIT was answered, IKE_AUTH was not."""
    return NoResponse(
        f"the gateway {address} stopped answering during IKE_AUTH",
        reason=f"it answered IKE_SA_INIT, then nothing on UDP port {port}",
        hint="a firewall may block UDP 4500 or drop IP fragments",
    )


def silent(address: IPAddress) -> NoResponse:
    """An established connection got no answer for as long as we wait."""
    return NoResponse(
        f"the gateway {address} does not answer any more",
        reason="several requests in a row stayed unanswered",
        hint="check the network and the gateway",
    )


def ended_by_gateway() -> NoResponse:
    """The gateway deleted the IKE SA or the last Child SA, in an orderly way."""
    return NoResponse("the gateway ended the connection", reason="it sent a DELETE")


def no_child(type_: NotifyType) -> NoResponse:
    """The gateway had deleted the only Child SA, and does not make another one."""
    return NoResponse("the gateway makes no Child SA any more", reason=f"it answered {type_} several times")


def not_renewed(what: str) -> NoResponse:
    """The keys of `what` reached the end of their life, and the gateway had refused to rekey."""
    return NoResponse(f"the keys of {what} could not be renewed in time", reason="the gateway refused to rekey")


def authentication_over() -> NoResponse:
    """The gateway limits how long an authentication is good for (RFC 4478)."""
    return NoResponse("the gateway wants a new authentication", reason="the time of its AUTH_LIFETIME is over")


def broke_protocol(reason: str) -> IkeclientError:
    """The gateway sent something authenticated that makes no sense."""
    return NegotiationRefused("the gateway broke the protocol", reason=reason)
