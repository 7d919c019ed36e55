"""What goes wrong with a real gateway: each failure has its exit code and says what failed, why and what to try."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from lab.client import WITHOUT_RIGHTS, Tables
from lab.gateway import Gateway, Offer
from lab.pki import Pki
from lab.world import Lab


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A gateway, what the profile says differently, and what a person must read."""

    offer: Callable[[Pki], Offer] = field(default=lambda _: Offer())
    profile: Callable[[Gateway], Tables] = field(default=lambda _: {})
    secrets: dict[str, str] = field(default_factory=dict)
    code: int
    words: tuple[str, ...]


def certificate(kind: Callable[[Pki], object]) -> Callable[[Pki], Offer]:
    return lambda pki: Offer(auth="eap-mschapv2", gateway_certificate=kind(pki))  # type: ignore[arg-type]


FAILURES = {
    "wrong password": Failure(
        offer=lambda _: Offer(auth="eap-mschapv2"),
        secrets={"password": "not-the-password"},
        code=4,
        words=("refused", "alice", "E=691"),
    ),
    "unknown user": Failure(
        offer=lambda _: Offer(auth="eap-mschapv2"),
        profile=lambda _: {"auth": {"user": "mallory"}},
        code=4,
        words=("refused", "mallory"),
    ),
    "wrong PSK": Failure(secrets={"psk": "not-the-pre-shared-key"}, code=4, words=("AUTHENTICATION_FAILED",)),
    "unknown client identity": Failure(
        profile=lambda _: {"auth": {"identity": "mallory@example.org"}}, code=4, words=("AUTHENTICATION_FAILED",)
    ),
    "unknown authority": Failure(
        offer=certificate(Pki.unknown_authority),
        profile=lambda gateway: {"gateway": {"ca": [str(gateway.pki.authority("rsa").certificate_file)]}},
        code=7,
        words=("issuer",),
    ),
    "wrong gateway identity": Failure(
        offer=lambda _: Offer(auth="eap-mschapv2"),
        profile=lambda _: {"gateway": {"identity": "other.example.org"}},
        code=7,
        words=("other.example.org", "gw.example.org"),
    ),
    "wrong gateway identity with a PSK": Failure(
        profile=lambda _: {"gateway": {"identity": "%any"}, "auth": {"identity": "bob@example.org"}},
        code=4,
        words=("AUTHENTICATION_FAILED",),
    ),
    "expired certificate": Failure(offer=certificate(Pki.expired), code=7, words=("expired",)),
    "certificate from the future": Failure(offer=certificate(Pki.not_yet_valid), code=7, words=("not valid",)),
    "certificate for clients only": Failure(offer=certificate(Pki.client_purpose), code=7, words=("server",)),
    "no IKE proposal in common": Failure(
        offer=lambda _: Offer(proposals="aes128-sha1-modp3072"),
        profile=lambda _: {"crypto": {"ike": ["aes256gcm16-prfsha384-ecp384"]}},
        code=6,
        words=("NO_PROPOSAL_CHOSEN", "[crypto]"),
    ),
    "no ESP proposal in common": Failure(
        offer=lambda _: Offer(esp_proposals="aes128gcm16"),
        profile=lambda _: {"crypto": {"esp": ["aes256-sha512"]}},
        code=6,
        words=("NO_PROPOSAL_CHOSEN",),
    ),
    "selectors refused": Failure(
        profile=lambda _: {"network": {"routes": ["172.16.0.0/12"]}}, code=6, words=("TS_UNACCEPTABLE",)
    ),
    "no address to give": Failure(offer=lambda _: Offer(pools=()), code=6, words=("address",)),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_what_failed_and_changes_nothing(lab: Lab, name: str) -> None:
    """K4, K10, K17, C1, C2, C3, C6, E7: exit code and words of each failure."""
    failure = FAILURES[name]
    lab.gateway.serve(failure.offer(lab.gateway.pki))
    lab.client.write_profile(lab.gateway, failure.profile(lab.gateway))
    for secret, value in failure.secrets.items():
        lab.client.secret_file(secret, value)
    before = lab.client.traces()
    connection = lab.client.start()
    assert connection.wait() == failure.code, connection.stderr
    for word in failure.words:
        assert word in connection.stderr
    error = connection.stderr[connection.stderr.index("error:") :].strip().splitlines()
    assert 1 <= len(error) <= 3
    assert "Traceback" not in connection.stderr
    assert lab.client.traces() == before
    assert [sa for sa in lab.gateway.list_sas() if sa["state"] == "ESTABLISHED"] == []


def test_nobody_answers(lab: Lab) -> None:
    lab.client.write_profile(lab.gateway)
    connection = lab.client.start("work", "--timeout", "3")
    assert connection.wait(10) == 5
    assert "no IKE answer from 10.1.0.1" in connection.stderr
    assert "500 nor 4500" in connection.stderr


def test_a_gateway_that_falls_silent_during_authentication(lab: Lab) -> None:
    lab.network.gateway.block_udp_port(4500)
    connection = lab.start(None, "--timeout", "3")
    assert connection.wait(10) == 5
    assert "4500" in connection.stderr


def test_an_unknown_host_name(lab: Lab) -> None:
    lab.client.write_profile(lab.gateway, {"gateway": {"address": "nowhere.example.net"}})
    connection = lab.client.start("work", "--timeout", "5")
    assert connection.wait(15) == 5
    assert "nowhere.example.net" in connection.stderr


def test_no_tun_device(lab: Lab) -> None:
    """O1: the missing device node is named, with what to do."""
    lab.network.client.hide("/dev/net")
    connection = lab.start()
    assert connection.wait() == 11
    assert "/dev/net/tun" in connection.stderr
    assert lab.gateway.list_sas() == []


def test_no_privilege(lab: Lab) -> None:
    """O1: the missing capability is named."""
    connection = lab.start(prefix=WITHOUT_RIGHTS)
    assert connection.wait() == 11
    assert "CAP_NET_ADMIN" in connection.stderr
    assert lab.gateway.list_sas() == []
