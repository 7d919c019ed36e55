"""Wireshark's ISAKMP dissector reads what we write: an implementation of the format that nobody here wrote."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path

from vectors.recordings import DATAGRAMS
from vectors.wireshark import dissect, needs_wireshark
from wire_values import IKE_PROPOSAL, message_of

from ikeclient.wire.config import ConfigAttribute, ConfigPayload
from ikeclient.wire.encrypted import EncryptedFragmentPayload
from ikeclient.wire.identity import AuthPayload, CertReqPayload, Identity, IdiPayload, IdrPayload
from ikeclient.wire.key_exchange import KePayload, NoncePayload
from ikeclient.wire.notify import DeletePayload, EapPayload, NotifyPayload, VendorIdPayload
from ikeclient.wire.payload import RawPayload
from ikeclient.wire.registry import (
    AuthMethod,
    CertEncoding,
    ConfigAttributeType,
    ConfigType,
    EncryptionId,
    ExchangeType,
    IdType,
    KeyExchangeId,
    NotifyType,
    PayloadType,
    ProtocolId,
    SequenceNumbers,
    TransformType,
)
from ikeclient.wire.sa import Proposal, SaPayload, Transform
from ikeclient.wire.selector import TrafficSelector, TsiPayload, TsrPayload

COUNTING = bytes(range(32))
SA = SaPayload(
    proposals=(
        IKE_PROPOSAL,
        Proposal(
            number=2,
            protocol=ProtocolId.ESP,
            spi=bytes.fromhex("c0ffee00"),
            transforms=(
                Transform(type=TransformType.ENCRYPTION, id=EncryptionId.AES_GCM_16, key_bits=128),
                Transform(type=TransformType.SEQUENCE_NUMBERS, id=SequenceNumbers.EXTENDED),
            ),
        ),
    )
)
ADDRESSES = (
    ConfigAttribute(type=ConfigAttributeType.INTERNAL_IP4_ADDRESS, value=bytes((10, 88, 0, 1))),
    ConfigAttribute(type=ConfigAttributeType.INTERNAL_IP6_ADDRESS, value=ip_address("fd88::1").packed + b"\x80"),
)
PAYLOADS = (
    SA,
    KePayload(method=KeyExchangeId.CURVE25519, data=COUNTING),
    NoncePayload(nonce=COUNTING),
    IdiPayload(identity=Identity(type=IdType.RFC822_ADDR, data=b"alice@example.org")),
    IdrPayload(identity=Identity(type=IdType.IPV4_ADDR, data=bytes((192, 0, 2, 1)))),
    CertReqPayload(encoding=CertEncoding.X509_SIGNATURE, authorities=COUNTING[:20]),
    AuthPayload(method=AuthMethod.SHARED_KEY, data=COUNTING),
    NotifyPayload(type=NotifyType.REKEY_SA, protocol=ProtocolId.ESP, spi=bytes.fromhex("c0ffee01")),
    NotifyPayload(type=NotifyType.COOKIE, data=b"crumbs"),
    DeletePayload(protocol=ProtocolId.ESP, spi_length=4, spis=(b"\0\0\1\0", b"\0\0\1\1")),
    VendorIdPayload(data=b"somebody"),
    TsiPayload(selectors=(TrafficSelector.from_network(ip_network("10.99.0.0/24")),)),
    TsrPayload(
        selectors=(
            TrafficSelector(
                start=ip_address("fd99::1"), end=ip_address("fd99::2"), protocol=6, start_port=443, end_port=444
            ),
        )
    ),
    ConfigPayload(type=ConfigType.REPLY, attributes=ADDRESSES),
    EapPayload(packet=bytes.fromhex("01 07 0005 01")),
    RawPayload(TYPE=PayloadType(200), critical=True, body=b"whatever"),
    EncryptedFragmentPayload(inner=PayloadType.IDI, number=2, total=3, body=bytes(40)),
)
EXPECTED = {
    "_ws.malformed": "",
    "_ws.expert.message": "",
    "isakmp.ispi": "1111111111111111",
    "isakmp.rspi": "2222222222222222",
    "isakmp.version": "0x20",
    "isakmp.exchangetype": "35",
    "isakmp.flags": "0x28",
    "isakmp.messageid": "0x00000007",
    "isakmp.typepayload": "33 2 3 3 3 3 2 3 3 34 40 35 36 38 39 41 41 42 43 44 45 47 48 200 53",
    "isakmp.prop.number": "1 2",
    "isakmp.prop.protoid": "1 3",
    "isakmp.prop.transforms": "4 2",
    "isakmp.tf.type": "1 2 3 4 1 5",
    "isakmp.tf.id.encr": "12 20",
    "isakmp.tf.id.prf": "5",
    "isakmp.tf.id.integ": "12",
    "isakmp.tf.id.dh": "14",
    "isakmp.tf.id.esn": "1",
    "isakmp.ike2.attr.key_length": "256 128",
    "isakmp.spi": "c0ffee00 c0ffee01",
    "isakmp.key_exchange.dh_group": "31",
    "isakmp.key_exchange.data": COUNTING.hex(),
    "isakmp.nonce": COUNTING.hex(),
    "isakmp.id.type": "3 1",
    "isakmp.id.data.user_fqdn": "alice@example.org",
    "isakmp.id.data.ipv4_addr": "192.0.2.1",
    "isakmp.certreq.type": "4",
    "isakmp.ike.certreq.authority": COUNTING[:20].hex(),
    "isakmp.auth.method": "2",
    "isakmp.auth.data": COUNTING.hex(),
    "isakmp.notify.protoid": "3 0",
    "isakmp.notify.msgtype": "16393 16390",
    "isakmp.delete.protoid": "3",
    "isakmp.spinum": "2",
    "isakmp.delete.spi": "00000100 00000101",
    "isakmp.vid_bytes": b"somebody".hex(),
    "isakmp.ts.number": "1 1",
    "isakmp.ts.type": "7 8",
    "isakmp.ts.protoid": "0 6",
    "isakmp.ts.start_port": "0 443",
    "isakmp.ts.end_port": "65535 444",
    "isakmp.ts.start_ipv4": "10.99.0.0",
    "isakmp.ts.end_ipv4": "10.99.0.255",
    "isakmp.ts.start_ipv6": "fd99::1",
    "isakmp.ts.end_ipv6": "fd99::2",
    "isakmp.cfg.type": "2",
    "isakmp.cfg.attr.type": "1 8",
    "isakmp.cfg.attr.internal_ip4_address": "10.88.0.1",
    "isakmp.cfg.attr.internal_ip6_address": "fd88::1",
    "isakmp.cfg.attr.internal_ip6_address.prefix": "128",
    "eap.code": "1",
    "eap.id": "7",
    "isakmp.frag.number": "2",
    "isakmp.frag.total": "3",
}


@needs_wireshark
def test_wireshark_reads_every_payload_as_we_meant_it(tmp_path: Path) -> None:
    message = message_of(
        PAYLOADS, spi_i=b"\x11" * 8, spi_r=b"\x22" * 8, exchange=ExchangeType.IKE_AUTH, response=True, message_id=7
    )
    (found,) = dissect(tmp_path, [message.emit()], list(EXPECTED))
    assert found == EXPECTED


@needs_wireshark
def test_wireshark_calls_a_broken_message_malformed(tmp_path: Path) -> None:
    """So that its silence above means something."""
    message = bytearray(message_of((SA,)).emit())
    message[28 + 2 : 28 + 4] = (200).to_bytes(2, "big")  # the payload's length, past the end
    (found,) = dissect(tmp_path, [bytes(message)], ["_ws.malformed"])
    assert found["_ws.malformed"]


@needs_wireshark
def test_wireshark_finds_nothing_wrong_with_the_recordings(tmp_path: Path) -> None:
    found = dissect(tmp_path, list(DATAGRAMS.values()), ["_ws.malformed", "isakmp.length"])
    assert found == [{"_ws.malformed": "", "isakmp.length": str(len(data))} for data in DATAGRAMS.values()]
