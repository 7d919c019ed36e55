"""The protocol log, from messages and events to lines."""

from __future__ import annotations

import logging
from ipaddress import ip_address

import pytest

from ikeclient.crypto.algorithms.transforms import ENCRYPTION, KEY_EXCHANGE, PRF, AlgorithmProposal
from ikeclient.errors import NoResponse
from ikeclient.ike.events import ChildClosed, Closed, Configuration, NatStatus, Path, PathProbed
from ikeclient.ike.observation import CandidateTried, MessageSeen, Observation
from ikeclient.ike.v2.rules.negotiate import offer_ike
from ikeclient.tunnel import protocol_log
from ikeclient.wire.header import Header
from ikeclient.wire.identity import AuthPayload, Identity, IdiPayload
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import EapPayload, NotifyPayload, VendorIdPayload
from ikeclient.wire.payload import Payload, RawPayload
from ikeclient.wire.registry import (
    AuthMethod,
    ExchangeType,
    IdType,
    KeyExchangeId,
    NotifyType,
    PayloadType,
)

SUITE = "aes256gcm16-prfsha384-ecp384"
CANARY = b"S3cr3t-CANARY"
PATH = Path(ip_address("192.0.2.1"), 40000, ip_address("203.0.113.7"), 4500)


def seen(*payloads: Payload, sent: bool = True, **fields: object) -> MessageSeen:
    header = Header(
        spi_i=b"\1" * 8,
        spi_r=b"\2" * 8,
        next_payload=PayloadType.NONE,
        exchange=ExchangeType.IKE_AUTH,
        initiator=sent,
        response=not sent,
        message_id=1,
    )
    return MessageSeen(sent=sent, header=header, payloads=payloads, path=PATH, **fields)  # type: ignore[arg-type]


def lines(caplog: pytest.LogCaptureFixture, *observations: Observation, level: int = logging.INFO) -> list[str]:
    caplog.clear()
    with caplog.at_level(level, "ikeclient.ike"):
        for each in observations:
            protocol_log.observe(each)
    return [record.getMessage() for record in caplog.records]


def test_a_message_is_a_line_and_its_proposals_another(caplog: pytest.LogCaptureFixture) -> None:
    proposal = AlgorithmProposal(
        encryption=(ENCRYPTION["aes256gcm16"], ENCRYPTION["aes128gcm16"]),
        prf=(PRF["prfsha384"],),
        integrity=(),
        key_exchange=(KEY_EXCHANGE["ecp384"], KEY_EXCHANGE["x25519"]),
    )
    shown = lines(
        caplog,
        seen(
            offer_ike([proposal]),
            KePayload(method=KeyExchangeId.ECP_384, data=CANARY),
            NoncePayload(nonce=CANARY * 2),
            NotifyPayload(type=NotifyType.MOBIKE_SUPPORTED),
        ),
        CandidateTried(
            suite="aes256gcm16-prfsha384-ecp384", nat=NatStatus(local=True, remote=False), fragmentation=True
        ),
        seen(attempt=3, wait=1.62),
    )
    assert shown == [
        "sent IKE_AUTH request 1 to 203.0.113.7[4500]: SA KE(ecp384) NONCE N(MOBIKE_SUPPORTED)",
        "  proposed: IKE aes256gcm16-aes128gcm16-prfsha384-ecp384-x25519",
        "goes on with aes256gcm16-prfsha384-ecp384, NAT here, fragmentation",
        "sent IKE_AUTH request 1 to 203.0.113.7[4500] again, for the third time",
    ]


def test_lengths_and_timers_come_with_more_detail(caplog: pytest.LogCaptureFixture) -> None:
    message = seen(NoncePayload(nonce=bytes(32)), lengths=(600, 500), wait=0.5)
    assert lines(caplog, message, level=logging.DEBUG)[1] == (
        "  1100 bytes in 2 fragments, NONCE:36, sent again in 0.5 s, 0101010101010101_i 0202020202020202_r"
    )


def test_no_secret_and_nothing_that_steers_a_terminal_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """F12, with what a gateway chooses freely."""
    hostile = b"\x1b[2Jx\n"
    shown = lines(
        caplog,
        seen(
            IdiPayload(identity=Identity(type=IdType.FQDN, data=hostile)),
            AuthPayload(method=AuthMethod.SHARED_KEY, data=CANARY),
            AuthPayload(method=AuthMethod.DIGITAL_SIGNATURE, data=b"\xff" + CANARY),
            EapPayload(packet=bytes((2, 1, 0, 5 + len(CANARY), 26)) + CANARY),
            EapPayload(packet=CANARY),
            VendorIdPayload(data=hostile),
            NotifyPayload(type=NotifyType.COOKIE, data=CANARY),
            RawPayload(TYPE=PayloadType(200), critical=False, body=CANARY),
            sent=False,
        ),
        level=logging.DEBUG,
    )
    text = "".join(shown)
    assert text.isprintable()
    assert CANARY.decode() not in text
    assert CANARY.hex() not in text
    assert "EAP(RESPONSE MSCHAPV2) EAP(malformed)" in text
    assert "AUTH(SHARED_KEY) AUTH(DIGITAL_SIGNATURE)" in text
    assert "PayloadType_200" in text


def test_decisions_are_told_from_events(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, "ikeclient.ike"):
        for event in (
            Configuration(dns_servers=(ip_address("10.99.0.53"),), dns_domains=("corp.example", "\x1b")),
            ChildClosed(spi_in=0xC1, replaced=False),
            PathProbed(asked=1400, size=1396, passed=False),
            Closed(error=NoResponse("no answer", reason="silence")),
            Closed(),
        ):
            protocol_log.event(event)
    assert [record.getMessage() for record in caplog.records] == [
        "assigned: DNS 10.99.0.53; domains corp.example \\x1b",
        "Child SA 000000c1_i closed",
        "a packet of 1396 bytes did not pass",
        "closed: no answer; silence",
        "closed",
    ]


def test_without_v_nothing_is_made(caplog: pytest.LogCaptureFixture) -> None:
    assert lines(caplog, seen(), level=logging.WARNING) == []
