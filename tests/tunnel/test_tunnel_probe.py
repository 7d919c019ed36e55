"""`ikeclient probe` against answers that no gateway gives: anybody can send them, and they are no answers."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address

import pytest

from ikeclient.crypto.algorithms.key_exchange import generate
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, KEY_EXCHANGE, PRF, AlgorithmProposal
from ikeclient.ike.v2.message.payloads import find, need, notifies
from ikeclient.ike.v2.rules.negotiate import offer_ike
from ikeclient.tunnel.probe import Findings, PortFindings, _algorithms, _introduce, _Line
from ikeclient.wire.notify import NotifyPayload
from ikeclient.wire.payload import Message, Payload
from ikeclient.wire.registry import NotifyType
from ikeclient.wire.sa import SaPayload

GROUP = KEY_EXCHANGE["x25519"]
OFFER = [AlgorithmProposal(encryption=(ENCRYPTION["aes128gcm16"],), prf=(PRF["prfsha256"],), key_exchange=(GROUP,))]


@contextmanager
def answering(*answers: tuple[Payload, ...]) -> Iterator[tuple[int, list[Message]]]:
    """Somebody who sends all of `answers` to each request, on a port of this machine; and what was asked."""
    asked: list[Message] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
        somebody.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                data, source = somebody.recvfrom(65535)
                if not data:
                    return
                asked.append(Message.parse(data))
                header = replace(asked[-1].header, spi_r=os.urandom(8), initiator=False, response=True)
                for payloads in answers:
                    somebody.sendto(Message(header=header, payloads=payloads).emit(), source)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield somebody.getsockname()[1], asked
        finally:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
                stop.sendto(b"", somebody.getsockname())
            thread.join()


def test_an_answer_with_two_proposals_of_algorithms_is_none() -> None:
    """N11: it was an error that ended the command; now the genuine one behind it counts."""
    offer = offer_ike(OFFER)
    with answering((offer, offer), (offer,)) as (port, _):
        line = _Line(ip_address("127.0.0.1"), port, 5.0)
        answer = line.ask(OFFER, GROUP.id, generate(GROUP, os.urandom).public)
        line.close()
    assert answer is not None
    assert find(answer.message.payloads, SaPayload) is not None
    assert need(answer.message.payloads, SaPayload) == offer


@pytest.mark.parametrize(("length", "returned"), [(0, False), (1, True), (64, True), (65, False), (9000, False)])
def test_a_cookie_of_another_length_is_not_returned(length: int, returned: bool) -> None:
    """N16: else anybody makes us send as much as that."""
    cookie = NotifyPayload(type=NotifyType.COOKIE, data=b"c" * length)
    with answering((cookie,)) as (port, asked):
        line = _Line(ip_address("127.0.0.1"), port, 5.0)
        line.ask(OFFER, GROUP.id, generate(GROUP, os.urandom).public)
        line.close()
    sent = [n.data for message in asked for n in notifies(message.payloads) if n.type == NotifyType.COOKIE]
    assert bool(sent) is returned


@pytest.mark.parametrize(
    ("type_", "data", "refused"),
    [
        (NotifyType.COOKIE, b"c" * 16, False),
        (NotifyType.REDIRECT, b"\1\4\x7f\0\0\1", False),
        (NotifyType.NO_PROPOSAL_CHOSEN, b"", True),
    ],
)
def test_what_no_answer_tells_is_not_made_a_refusal(type_: NotifyType, data: bytes, refused: bool) -> None:
    """N15, N19: whoever only asks for cookies, or sends us elsewhere, has said nothing about algorithms."""
    found = Findings(host="gateway", address="127.0.0.1")
    with answering((NotifyPayload(type=type_, data=data),)) as (port, _):
        line = _Line(ip_address("127.0.0.1"), port, 5.0)
        assert _introduce(line, found, PortFindings(port=port))
        _algorithms(line, found)
        line.close()
    assert (found.suite, found.refused, found.complete) == (None, refused, refused)
    assert found.accepted.get("encryption") == (() if refused else None)
