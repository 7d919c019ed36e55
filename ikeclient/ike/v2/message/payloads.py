"""Requests of ours, and how to find payloads in what arrived."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import TypeVar

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Payload
from ikeclient.wire.registry import ExchangeType, NotifyType

P = TypeVar("P", bound=Payload)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request to seal and send; the exchange continues with the payloads of its answer.

    With `dont_fragment` it probes the path: it is sent in one piece, whatever the path is believed to carry.
    """

    exchange: ExchangeType
    payloads: tuple[Payload, ...] = field(repr=False)
    dont_fragment: bool = False


def find(payloads: Sequence[Payload], kind: type[P]) -> P | None:
    """The only payload of a kind, or None; raises `ParseError` when there are several."""
    found = [p for p in payloads if isinstance(p, kind)]
    if len(found) > 1:
        raise ParseError(f"{len(found)} {kind.__name__}s in one message")
    return found[0] if found else None


def need(payloads: Sequence[Payload], kind: type[P]) -> P:
    """The only payload of a kind; raises `ParseError` when it is missing."""
    payload = find(payloads, kind)
    if payload is None:
        raise ParseError(f"no {kind.__name__} in the message")
    return payload


def notifies(payloads: Sequence[Payload]) -> list[NotifyPayload]:
    """Every notification, in order."""
    return [p for p in payloads if isinstance(p, NotifyPayload)]


def has_notify(payloads: Sequence[Payload], type_: NotifyType) -> bool:
    """Whether a notification of this type is present."""
    return any(n.type == type_ for n in notifies(payloads))


def error_notify(payloads: Sequence[Payload]) -> NotifyPayload | None:
    """The first error notification, if any (RFC 7296 section 3.10.1)."""
    return next((n for n in notifies(payloads) if n.type.is_error), None)
