"""PKCS#11 URIs (RFC 7512)."""

from __future__ import annotations

import pytest

from ikeclient.signer.uri import TokenUri, parse_uri


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("pkcs11:", TokenUri()),
        ("PKCS11:token=work;object=vpn", TokenUri(texts={"token": "work", "object": "vpn"})),
        ("pkcs11:id=%01%fF", TokenUri(id=b"\x01\xff")),
        ("pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.",
         TokenUri(texts={"token": "The Software PKCS#11 Softtoken", "manufacturer": "Snake Oil, Inc."})),
        ("pkcs11:object=my-key;type=private;slot-id=327", TokenUri(texts={"object": "my-key"}, slot=327)),
        ("pkcs11:token=a?module-path=/usr/lib/x.so", TokenUri(texts={"token": "a"}, module="/usr/lib/x.so")),
        ("pkcs11:token=a?module-name=opensc-pkcs11", TokenUri(texts={"token": "a"}, module="opensc-pkcs11.so")),
        ("pkcs11:token=sm%C3%B8r", TokenUri(texts={"token": "smør"})),
    ],
)  # fmt: skip
def test_what_a_uri_means(written: str, meant: TokenUri) -> None:
    assert parse_uri(written) == meant


@pytest.mark.parametrize(
    ("written", "why"),
    [
        ("token=work", "must begin"),
        ("pkcs12:token=work", "must begin"),
        ("pkcs11:token", "not `attribute=value`"),
        ("pkcs11:token=a;;object=b", "not `attribute=value`"),
        ("pkcs11:token=a;token=b", "twice"),
        ("pkcs11:token=a;lable=b", "'lable', which is not known"),
        ("pkcs11:token=a%2", "percent-encoded"),
        ("pkcs11:token=a b", "percent-encoded"),
        ("pkcs11:token=%ff", "not UTF-8"),
        ("pkcs11:token=%1b[2J", "control"),
        ("pkcs11:token=a%00", "control"),
        ("pkcs11:slot-id=one", "not a number"),
        ("pkcs11:type=secret-key", "type"),
        ("pkcs11:token=a?pin-value=1234", "pin-value"),
        ("pkcs11:token=a?pin-source=file:/pin", "pin-source"),
        ("pkcs11:token=a?x-y=1", "'x-y', which is not known"),
        ("pkcs11:" + "token=" + "a" * 3000, "characters"),
    ],
)
def test_what_is_refused(written: str, why: str) -> None:
    """An attribute that was overlooked could have told two keys apart."""
    with pytest.raises(ValueError, match=why) as caught:
        parse_uri(written)
    assert "1234" not in str(caught.value)
