"""What a gateway's error notifications mean, as errors to show (RFC 7296 section 3.10.1)."""

from __future__ import annotations

from ikeclient.errors import AuthenticationFailed, IkeclientError, NegotiationRefused, NoResponse
from ikeclient.wire.registry import NotifyType

_REFUSALS: dict[NotifyType, tuple[type[IkeclientError], str, str]] = {
    NotifyType.NO_PROPOSAL_CHOSEN: (
        NegotiationRefused,
        "the gateway accepts none of the offered algorithms",
        "compare [crypto] in the profile with what the gateway allows",
    ),
    NotifyType.INVALID_KE_PAYLOAD: (
        NegotiationRefused,
        "the gateway wants a key exchange that the profile does not offer",
        "add it to [crypto] in the profile if it is acceptable",
    ),
    NotifyType.AUTHENTICATION_FAILED: (
        AuthenticationFailed,
        "the gateway refused our credentials",
        "check [auth] identity and secret, and that the gateway knows them",
    ),
    NotifyType.TS_UNACCEPTABLE: (
        NegotiationRefused,
        "the gateway carries none of the traffic the profile asks for",
        "set [network] routes to what the gateway offers, or to 'gateway'",
    ),
    NotifyType.INTERNAL_ADDRESS_FAILURE: (
        NegotiationRefused,
        "the gateway has no inner address for us",
        "its address pool may be exhausted: ask its administrator",
    ),
    NotifyType.FAILED_CP_REQUIRED: (
        NegotiationRefused,
        "the gateway insists on assigning an inner address",
        "put 'ipv4' or 'ipv6' into [network] request",
    ),
    NotifyType.SINGLE_PAIR_REQUIRED: (
        NegotiationRefused,
        "the gateway accepts one pair of addresses only",
        "set [network] routes to a single network",
    ),
    NotifyType.NO_ADDITIONAL_SAS: (
        NegotiationRefused,
        "the gateway accepts no further security associations",
        "",
    ),
    NotifyType.INVALID_MAJOR_VERSION: (
        NegotiationRefused,
        "the gateway does not speak IKEv2",
        "",
    ),
    NotifyType.TEMPORARY_FAILURE: (NoResponse, "the gateway is temporarily unable to answer", "try again later"),
}


def refusal(type_: NotifyType, *, detail: str = "", hint: str = "") -> IkeclientError:
    """The error that an error notification of the gateway means; `detail` is appended to the reason.

    `hint` replaces the usual one.
    """
    kind, message, usual_hint = _REFUSALS.get(type_, (NegotiationRefused, "the gateway refused", ""))
    reason = f"it answered {type_}" + (f": {detail}" if detail else "")
    return kind(message, reason=reason, hint=hint or usual_hint or None)
