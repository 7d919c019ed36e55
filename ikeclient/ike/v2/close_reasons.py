"""Why a connection ends although nothing is wrong with the profile, as errors to show."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ikeclient.errors import GatewayNotAuthenticated, IkeclientError, NegotiationRefused, NoResponse
from ikeclient.ike.events import IPAddress
from ikeclient.wire.registry import NotifyType


def _elsewhere(addresses: Sequence[IPAddress]) -> str:
    """What to add to a reason when answers came from addresses that had not been asked."""
    return f"; an answer came from {', '.join(map(str, addresses))}" if addresses else ""


def no_answer(
    address: IPAddress, ports: Iterable[int], *, strangers: Sequence[IPAddress] = (), nonsense: bool = False
) -> NoResponse:
    """Nothing usable came back at all.

    `strangers` are addresses that answered although they were not asked; `nonsense` tells that what came was no IKE.
    """
    numbers = [str(port) for port in sorted(ports)]
    silent_ports = " nor ".join(numbers)
    if nonsense:
        return NoResponse(
            f"no IKE answer from {address}",
            reason=f"something answers, but not with IKE, from UDP port {silent_ports}",
            hint="a captive portal may answer in the gateway's place: log in to the network with a browser first",
        )
    where = f"UDP port {silent_ports} of that address" if strangers else f"UDP port {silent_ports}"
    return NoResponse(
        f"no IKE answer from {address}",
        reason=f"no answer came back from {where}{_elsewhere(strangers)}",
        hint=f"check the address and the network; a firewall may block UDP {' and '.join(numbers)}",
    )


def silent_during_auth(
    address: IPAddress, port: int, *, answers: bool = False, began: bool = False, strangers: Sequence[IPAddress] = ()
) -> NoResponse:
    """IKE_SA_INIT was answered, IKE_AUTH was not.

    `answers` tells whether `port` has answered anything else, `began` whether earlier messages of IKE_AUTH were.
    """
    reason = f"it answered IKE_SA_INIT, then nothing on UDP port {port}"
    hint = "a firewall may block UDP 4500 or drop IP fragments"
    if began or answers:
        reason = f"it answers IKE_SA_INIT on UDP port {port}, but not IKE_AUTH"
        hint = (
            "it may wait for a person or another server: try --timeout 120; or something on the way drops IP fragments"
        )
    if began:
        reason = f"it answered the first messages of IKE_AUTH on UDP port {port}, but not the last one"
    kind = LoginUnanswered if began else NoResponse
    return kind(
        f"the gateway {address} stopped answering during IKE_AUTH", reason=reason + _elsewhere(strangers), hint=hint
    )


def no_encapsulation() -> NegotiationRefused:
    """IKE_SA_INIT was answered without NAT detection (RFC 7296 section 2.23), and port 4500 is silent."""
    return NegotiationRefused(
        "the gateway does not know UDP encapsulation, which ikeclient needs",
        reason="its IKE_SA_INIT answer has no NAT detection, and it does not answer on UDP port 4500",
        hint="turn NAT traversal on at the gateway",
    )


def not_judged(kind: str, place: str) -> GatewayNotAuthenticated:
    """Our code failed over a message whose sender had not proven anything."""
    return GatewayNotAuthenticated(
        "the gateway did not authenticate itself: its answer could not be judged",
        reason=f"this is a bug in ikeclient: {kind} in {place}",
        hint="report it with these lines, and with the gateway's certificate if it has one",
    )


def silent(address: IPAddress) -> NoResponse:
    """An established connection got no answer for as long as we wait."""
    return NoResponse(
        f"the gateway {address} does not answer any more",
        reason="several requests in a row stayed unanswered",
        hint="check the network and the gateway",
    )


class LoginUnanswered(NoResponse):
    """IKE_AUTH had begun and stayed without an outcome: what we said may have been judged, and refused in silence."""


class EndedByGateway(NoResponse):
    """The gateway deleted the IKE SA, in an orderly way."""


def ended_by_gateway() -> EndedByGateway:
    """The gateway deleted the IKE SA or every Child SA, in an orderly way."""
    return EndedByGateway("the gateway ended the connection", reason="it sent a DELETE")


def no_child(type_: NotifyType, *, narrowed: bool = False) -> NoResponse:
    """The gateway had deleted the only Child SA, and makes none any more, or one that is `narrowed`."""
    if narrowed:
        return NoResponse(
            "the gateway makes no such Child SA any more", reason="a new one would carry less than before"
        )
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
