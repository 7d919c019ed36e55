import pytest

from ikeclient.eap.method import breach, identity_fault, method_name, password_fault, quoted
from ikeclient.wire.registry import EapType


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty"),
        ("nul\0nul", "contains a NUL character"),
        ("x" * 257, "is longer than 256 characters"),
        ("🔑" * 129, "is longer than 256 characters"),  # two UTF-16 units each
        ("half \ud83d of a pair", "is not valid Unicode text"),
        ("x" * 256, None),
        ("ключ", None),
        ("with spaces and \\ backslash", None),
    ],
)
def test_text_that_no_gateway_could_take_is_named(text: str, fault: str | None) -> None:
    """E16."""
    assert identity_fault(text) == password_fault(text) == fault


def test_a_domain_alone_is_not_an_identity() -> None:
    """E16: `DOMAIN\\`."""
    assert identity_fault("DOMAIN\\") is not None
    assert identity_fault("DOMAIN\\alice") is None
    assert password_fault("secret\\") is None


def test_methods_are_named_as_in_the_profile() -> None:
    assert method_name(EapType.MSCHAPV2) == "eap-mschapv2"
    assert method_name(EapType(200)) == "EAP type 200"


def test_a_hostile_name_is_quoted_harmlessly() -> None:
    assert quoted("al\x1b[0mice" + "e" * 300).isprintable()
    assert len(quoted("e" * 300)) == 82


def test_a_breach_of_protocol_has_the_exit_code_of_a_refused_negotiation() -> None:
    assert breach("why").exit_code == 6
    assert breach("why").lines() == ["the gateway broke the EAP protocol", "why"]
