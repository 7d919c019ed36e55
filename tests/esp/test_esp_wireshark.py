"""Wireshark's ESP dissector, an implementation nobody here wrote, reads what we seal.

Version 4.0 knows AES-GCM and AES-CBC with every HMAC, but neither ChaCha20-Poly1305 nor AES-CCM nor extended sequence
numbers; those stand on the published vectors.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from struct import pack

import pytest
from esp_packets import ipv4, ipv6, udp
from vectors.wireshark import tshark

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.esp.sa.pair import OutboundSa
from ikeclient.esp.sa.selectors import PacketFilter

GATEWAY, CLIENT = "192.0.2.1", "192.0.2.2"
ENCRYPTION_NAMES = {True: "AES-GCM with 16 octet ICV [RFC4106]", False: "AES-CBC [RFC3602]"}
INTEGRITY_NAMES = {
    "": "NULL",
    "sha1": "HMAC-SHA-1-96 [RFC2404]",
    "sha256": "HMAC-SHA-256-128 [RFC4868]",
    "sha384": "HMAC-SHA-384-192 [RFC4868]",
    "sha512": "HMAC-SHA-512-256 [RFC4868]",
}
SUITES = ["aes128gcm16", "aes256gcm16", *(f"{aes}-{sha}" for aes in ("aes128", "aes256") for sha in INTEGRITY)]
PACKETS = [ipv4(udp(bytes(n), 40001, 40002)) for n in (0, 1, 2, 3, 1400)] + [
    ipv6(udp(bytes(range(n)), 40001, 40002)) for n in (0, 5, 100)
]


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed: no independent reading of our ESP")
def test_wireshark_decrypts_what_we_seal(tmp_path: Path) -> None:
    capture = [pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
    associations = []
    for spi, name in enumerate(SUITES, start=0x1000):
        encryption, _, integrity = name.partition("-")
        suite = EspSuite(encryption=ENCRYPTION[encryption], integrity=INTEGRITY.get(integrity))
        keys = DirectionKeys(
            encryption=os.urandom(suite.encryption.key_length + suite.encryption.salt_length),
            integrity=os.urandom(suite.integrity.key_length) if suite.integrity else b"",
        )
        sender = OutboundSa(spi, suite, keys, filter=PacketFilter(sources=(), destinations=()), entropy=os.urandom)
        for payload in sender.seal(PACKETS):
            outer = ipv4(udp(payload, 4500, 4500), source=CLIENT, destination=GATEWAY)
            capture.append(pack("<IIII", 0, 0, len(outer), len(outer)) + outer)
        row = ["IPv4", CLIENT, GATEWAY, f"0x{spi:08x}", ENCRYPTION_NAMES[suite.encryption.aead]]
        row += [
            "0x" + keys.encryption.hex(),
            INTEGRITY_NAMES[integrity],
            "0x" + keys.integrity.hex() if integrity else "",
        ]
        associations += ["-o", "uat:esp_sa:" + ",".join(f'"{field}"' for field in row)]
    file = tmp_path / "esp.pcap"
    file.write_bytes(b"".join(capture))
    rows = tshark(
        file,
        *("-e", "esp.contained_data", "-e", "esp.icv_good", "-e", "esp.icv_bad"),
        *("-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"),
        *associations,
    )
    assert [bytes.fromhex(row[0]) for row in rows] == PACKETS * len(SUITES)
    assert all(row[1:] == ["1", "0"] for row in rows)  # the integrity check values are good
