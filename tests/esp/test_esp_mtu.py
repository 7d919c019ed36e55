from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.crypto.algorithms.esp_ciphers import esp_cipher, esp_layout
from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, EspSuite
from ikeclient.esp.sa.mtu import IP_HEADERS, inner_mtu, interface_mtu, segment_sizes

SUITES = [
    EspSuite(encryption=e, integrity=None if e.aead else i)
    for e in ENCRYPTION.values()
    for i in list(INTEGRITY.values())[: 1 if e.aead else None]
]
BY_NAME = {suite.name: suite for suite in SUITES}


def outer_length(inner: int, version: int, suite: EspSuite, *, udp: bool) -> int:
    """Length in bytes of the outer IP packet that carries an inner packet of `inner` bytes."""
    return IP_HEADERS[version] + (8 if udp else 0) + esp_layout(suite).sealed_length(inner)


@pytest.mark.parametrize(
    ("suite", "path", "version", "inner"),
    [
        # 1500 - 20 IP - 8 UDP - 8 ESP - 8 IV - 16 ICV = 1440, a multiple of 4, less 2 for the trailer
        ("aes128gcm16", 1500, 4, 1438),
        ("chacha20poly1305", 1500, 4, 1438),
        ("aes256gcm16", 1500, 6, 1418),
        ("aes128gcm16", 1280, 4, 1218),
        ("aes128gcm16", 1280, 6, 1198),
        # 1500 - 20 - 8 - 8 - 16 - 16 = 1432, down to 89 blocks = 1424
        ("aes256-sha256", 1500, 4, 1422),
        # 1500 - 20 - 8 - 8 - 16 - 12 = 1436 -> 1424
        ("aes128-sha1", 1500, 4, 1422),
        # 1500 - 40 - 8 - 8 - 16 - 32 = 1396 -> 1392
        ("aes256-sha512", 1500, 6, 1390),
        ("aes256-sha384", 1492, 4, 1406),
    ],
)
def test_known_sizes(suite: str, path: int, version: int, inner: int) -> None:
    assert inner_mtu(path, version, BY_NAME[suite]) == inner


@given(st.integers(1280, 9000), st.sampled_from([4, 6]), st.sampled_from(SUITES), st.booleans())
def test_the_inner_mtu_is_exact(path: int, version: int, suite: EspSuite, udp: bool) -> None:
    """One byte more does not fit any more."""
    inner = inner_mtu(path, version, suite, udp=udp)
    assert outer_length(inner, version, suite, udp=udp) <= path < outer_length(inner + 1, version, suite, udp=udp)


@pytest.mark.parametrize("suite", SUITES, ids=lambda s: s.name)
def test_predicted_lengths_are_those_of_real_packets(suite: EspSuite) -> None:
    keys = DirectionKeys(
        encryption=bytes(suite.encryption.key_length + suite.encryption.salt_length),
        integrity=bytes(suite.integrity.key_length if suite.integrity else 0),
    )
    cipher = esp_cipher(suite, keys, 256, os.urandom)
    for inner in range(1200, 1200 + 40):
        padded = inner + 2 + -(inner + 2) % esp_layout(suite).alignment
        assert outer_length(inner, 4, suite, udp=True) == 28 + len(cipher.seal(inner, bytes(padded)))


@pytest.mark.parametrize(("version", "floor"), [(4, 576), (6, 1280)])
def test_an_impossible_path_mtu_is_taken_for_the_least_that_ip_allows(version: int, floor: int) -> None:
    """P13: a forged report of 68."""
    for suite in SUITES:
        assert inner_mtu(68, version, suite) == inner_mtu(floor, version, suite) > 400


def test_an_interface_with_ipv6_is_never_below_1280() -> None:
    """P13: the kernel takes IPv6 away from such an interface."""
    assert interface_mtu(1198, ipv6=True) == 1280
    assert interface_mtu(1198, ipv6=False) == 1198
    assert interface_mtu(1438, ipv6=True) == 1438


def test_segments_leave_room_for_the_inner_headers() -> None:
    assert segment_sizes(1438) == (1398, 1378)
