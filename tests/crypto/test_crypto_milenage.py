"""Milenage against the test sets of 3GPP TS 35.208."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ikeclient.crypto.algorithms.milenage import Milenage


@dataclass(frozen=True, kw_only=True)
class TestSet:
    __test__ = False

    k: str
    rand: str
    sqn: str
    amf: str
    opc: str
    f1: str
    f1_resync: str
    f2: str
    f3: str
    f4: str
    f5: str
    f5_resync: str


SETS = {
    "1": TestSet(
        k="465b5ce8b199b49faa5f0a2ee238a6bc",
        rand="23553cbe9637a89d218ae64dae47bf35",
        sqn="ff9bb4d0b607",
        amf="b9b9",
        opc="cd63cb71954a9f4e48a5994e37a02baf",
        f1="4a9ffac354dfafb3",
        f1_resync="01cfaf9ec4e871e9",
        f2="a54211d5e3ba50bf",
        f3="b40ba9a3c58b2a05bbf0d987b21bf8cb",
        f4="f769bcd751044604127672711c6d3441",
        f5="aa689c648370",
        f5_resync="451e8beca43b",
    ),
    "3": TestSet(
        k="fec86ba6eb707ed08905757b1bb44b8f",
        rand="9f7c8d021accf4db213ccff0c7f71a6a",
        sqn="9d0277595ffc",
        amf="725c",
        opc="1006020f0a478bf6b699f15c062e42b3",
        f1="9cabc3e99baf7281",
        f1_resync="95814ba2b3044324",
        f2="8011c48c0c214ed2",
        f3="5dbdbb2954e8f3cde665b046179a5098",
        f4="59a92d3b476a0443487055cf88b2307b",
        f5="33484dc2136b",
        f5_resync="deacdd848cc6",
    ),
}


@pytest.mark.parametrize("name", SETS)
def test_the_functions_give_what_the_standard_says(name: str) -> None:
    case = SETS[name]
    card = Milenage(bytes.fromhex(case.k), bytes.fromhex(case.opc))
    rand = bytes.fromhex(case.rand)
    assert [each.hex() for each in card.f1(rand, bytes.fromhex(case.sqn), bytes.fromhex(case.amf))] == [
        case.f1,
        case.f1_resync,
    ]
    found = card.f2345(rand)
    values = (found.res, found.ck, found.ik, found.ak, found.ak_resync)
    assert [each.hex() for each in values] == [case.f2, case.f3, case.f4, case.f5, case.f5_resync]


@pytest.mark.parametrize(("k", "opc"), [(b"k" * 15, b"o" * 16), (b"k" * 16, b"o" * 17), (b"", b"")])
def test_keys_of_another_length_are_refused(k: bytes, opc: bytes) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Milenage(k, opc)
