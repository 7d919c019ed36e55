"""Finding payloads in an answer."""

import pytest

from ikeclient.errors import ParseError
from ikeclient.ike.v2.message.payloads import Request, error_notify, find, has_notify, need, notifies
from ikeclient.wire.identity import AuthPayload
from ikeclient.wire.key_exchange import NoncePayload
from ikeclient.wire.notify import EapPayload, NotifyPayload
from ikeclient.wire.registry import AuthMethod, ExchangeType, NotifyType

NONCE = NoncePayload(nonce=bytes(16))
AUTH = AuthPayload(method=AuthMethod.SHARED_KEY, data=b"mac")
COOKIE = NotifyPayload(type=NotifyType.COOKIE)
REFUSED = NotifyPayload(type=NotifyType.TS_UNACCEPTABLE)
PRIVATE = NotifyPayload(type=NotifyType(9999))


def test_one_is_found_none_is_none_or_an_error() -> None:
    """N10, K9: missing."""
    assert find((AUTH, NONCE), NoncePayload) is NONCE
    assert need((AUTH, NONCE), NoncePayload) is NONCE
    assert find((AUTH,), NoncePayload) is None
    with pytest.raises(ParseError, match="no NoncePayload in the message"):
        need((AUTH,), NoncePayload)


def test_two_of_a_kind_are_always_an_error() -> None:
    """N10, K9: duplicated, even if they are the same."""
    for look in (find, need):
        with pytest.raises(ParseError, match="2 NoncePayloads in one message"):
            look((NONCE, AUTH, NONCE), NoncePayload)


def test_notifications_come_in_order_and_errors_are_told_from_status() -> None:
    payloads = (COOKIE, NONCE, PRIVATE, REFUSED)
    assert notifies(payloads) == [COOKIE, PRIVATE, REFUSED]
    assert has_notify(payloads, NotifyType.COOKIE)
    assert not has_notify(payloads, NotifyType.REDIRECT)
    assert error_notify(payloads) is PRIVATE  # RFC 7296 section 3.10.1: unknown errors are errors
    assert error_notify((COOKIE, NONCE)) is None


def test_a_request_does_not_show_its_payloads() -> None:
    """F12."""
    assert "CANARY" not in repr(
        Request(exchange=ExchangeType.IKE_AUTH, payloads=(EapPayload(packet=b"S3cr3t-CANARY"),))
    )
