"""Who may use the proxy."""

from __future__ import annotations

from ikeclient.proxy.settings import Credentials


def test_names_and_passwords_are_compared_whole() -> None:
    made = Credentials(b"alice", b"secret")
    assert made.accept(b"alice", b"secret")
    for wrong in (
        (b"alices", b"ecret"),
        (b"alic", b"esecret"),
        (b"alice", b""),
        (b"", b"secret"),
        (b"alice", b"secret\0"),
    ):
        assert not made.accept(*wrong)


def test_what_is_kept_differs_from_proxy_to_proxy() -> None:
    """A digest that leaks from one cannot be compared with another's."""
    made = [Credentials(b"alice", b"secret") for _ in range(2)]
    assert made[0]._digest != made[1]._digest
