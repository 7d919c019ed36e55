"""The keys of EAP-AKA' by RFC 9048 appendix D; those of EAP-SIM are proven with whole conversations in tests/eap."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ikeclient.crypto.algorithms.sim_keys import SimKeys, aka_prime_keys

IDENTITY = b"0555444333222111"


@dataclass(frozen=True, kw_only=True)
class Case:
    network: bytes
    autn: bytes
    ik: bytes
    ck: bytes
    encryption: bytes
    authentication: bytes
    root: bytes
    msk: bytes


CASES = [
    Case(
        network=b"WLAN",
        autn=bytes.fromhex("bb52e91c747ac3ab2a5c23d15ee351d5"),
        ik=bytes.fromhex("9744871ad32bf9bbd1dd5ce54e3e2e5a"),
        ck=bytes.fromhex("5349fbe098649f948f5d2e973a81c00f"),
        encryption=bytes.fromhex("766fa0a6c317174b812d52fbcd11a179"),
        authentication=bytes.fromhex("0842ea722ff6835bfa2032499fc3ec23c2f0e388b4f07543ffc677f1696d71ea"),
        root=bytes.fromhex("cf83aa8bc7e0aced892acc98e76a9b2095b558c7795c7094715cb3393aa7d17a"),
        msk=bytes.fromhex(
            "67c42d9aa56c1b79e295e3459fc3d187d42be0bf818d3070e362c5e967a4d544e8ecfe19358ab303"
            "9aff03b7c930588c055babee58a02650b067ec4e9347c75a"
        ),
    ),
    Case(
        network=b"HRPD",
        autn=bytes.fromhex("bb52e91c747ac3ab2a5c23d15ee351d5"),
        ik=bytes.fromhex("9744871ad32bf9bbd1dd5ce54e3e2e5a"),
        ck=bytes.fromhex("5349fbe098649f948f5d2e973a81c00f"),
        encryption=bytes.fromhex("05ad73ac915fce89ac77e1520d82187b"),
        authentication=bytes.fromhex("5b4acaef62c6ebb8882b2f3d534c4b35277337a00184f20ff25d224c04be2afd"),
        root=bytes.fromhex("3f90bf5c6e5ef325ff04eb5ef6539fa8cca8398194fbd00be425b3f40dba10ac"),
        msk=bytes.fromhex(
            "87b321570117cd6c95ab6c436fb5073ff15cf85505d2bc5bb7355fc21ea8a75757e8f86a2b138002"
            "e05752913bb43b82f868a96117e91a2d95f526677d572900"
        ),
    ),
    Case(
        network=b"WLAN",
        autn=bytes.fromhex("a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0"),
        ik=bytes.fromhex("b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"),
        ck=bytes.fromhex("c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"),
        encryption=bytes.fromhex("897d302fa2847416488c28e20dcb7be4"),
        authentication=bytes.fromhex("c40700e7722483ae3dc7139eb0b88bb558cb3081eccd057f9207d1286ee7dd53"),
        root=bytes.fromhex("0a591a22dd8b5b1cf29e3d508c91dbbdb4aee23051892c42b6a2de66ea504473"),
        msk=bytes.fromhex(
            "9f7dca9e37bb22029ed986e7cd09d4a70d1ac76d95535c5cac40a7504699bb8961a29ef6f3e90f18"
            "3de5861ad1bedc81ce9916391b401aa006c98785a5756df7"
        ),
    ),
    Case(
        network=b"HRPD",
        autn=bytes.fromhex("a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0"),
        ik=bytes.fromhex("b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0"),
        ck=bytes.fromhex("c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0"),
        encryption=bytes.fromhex("745e7439ba238f50fcac4d15d47cd1d9"),
        authentication=bytes.fromhex("3e1d2aa4e677025cfd862a4be18361a13a645765571463df833a9759e8099879"),
        root=bytes.fromhex("99da835e2ae82462576fe6516fad1f802f0fa1191655dd0a273da96d04e0fcd3"),
        msk=bytes.fromhex(
            "c6d3a6e0ceea951eb20d74f32c3061d0680a04b0b086ee8700ace3e0b95fa02683c287beee444322"
            "94ff98af26d2cc783bace75c4b0af7fdfeb5511ba8e4cbd0"
        ),
    ),
]


@pytest.mark.parametrize("case", CASES, ids=["case 1", "case 2", "case 3", "case 4"])
def test_the_keys_of_aka_prime(case: Case) -> None:
    assert aka_prime_keys(IDENTITY, case.ik, case.ck, case.network, case.autn) == SimKeys(
        modern=True,
        encryption=case.encryption,
        authentication=case.authentication,
        root=case.root,
        msk=case.msk,
    )


def test_no_key_is_shown() -> None:
    """K15."""
    case = CASES[0]
    assert case.msk.hex()[:8] not in repr(aka_prime_keys(IDENTITY, case.ik, case.ck, case.network, case.autn))
