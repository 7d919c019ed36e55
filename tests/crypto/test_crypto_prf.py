"""The PRFs against RFC 2202 and RFC 4231, prf+ against NIST's IKEv2 vectors."""

from __future__ import annotations

import pytest

from ikeclient.crypto.algorithms.prf import prf, prf_plus
from ikeclient.crypto.algorithms.transforms import PRF

HI_THERE = {  # RFC 2202 section 3 and RFC 4231 section 4.2: test case 1
    "prfsha1": "b617318655057264e28bc0b6fb378c8ef146be00",
    "prfsha256": "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
    "prfsha384": ("afd03944d84895626b0825f4ab46907f15f9dadbe4101ec682aa034c7cebc59cfaea9ea9076ede7f4af152e8b2fa9cb6"),
    "prfsha512": (
        "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
        "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"
    ),
}


@pytest.mark.parametrize("keyword", PRF)
def test_every_prf_is_the_hmac_it_is_named_for(keyword: str) -> None:
    result = prf(PRF[keyword], b"\x0b" * 20, b"Hi There")
    assert result.hex() == HI_THERE[keyword]
    assert len(result) == PRF[keyword].output_length


def test_a_key_longer_than_the_hash_block_is_hashed_first() -> None:
    # RFC 4231 section 4.7: test case 6
    result = prf(PRF["prfsha256"], b"\xaa" * 131, b"Test Using Larger Than Block-Size Key - Hash Key First")
    assert result.hex() == "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"


def test_prf_plus_chains_its_blocks() -> None:
    # NIST CAVP, IKEv2 with SHA-1, the first four blocks of the derived keying material
    seed = bytes.fromhex("3651fef5c9c35e93c09a8b90a3f04d598e5c3ae507221684b1f201bb155c3acd")
    stream = prf_plus(PRF["prfsha1"], bytes.fromhex("cd2e8050137832245f1dbacc6e4f0a92f94d45d6"), seed, 80)
    assert stream.hex() == (
        "6f1b12cad3cbe097b35430356d869d54cddb0198ec859174d53ceb92dddedbe2436db69f60977c58"
        "fa63bbb667f8d36920b109baae8f6c61a9ac49feda01843225d080ec5539d5881a25521ffb2a0a91"
    )


def test_prf_plus_gives_a_prefix_for_a_shorter_length() -> None:
    algorithm = PRF["prfsha256"]
    assert prf_plus(algorithm, b"key", b"seed", 33) == prf_plus(algorithm, b"key", b"seed", 100)[:33]
    assert prf_plus(algorithm, b"key", b"seed", 0) == b""


def test_prf_plus_refuses_to_overflow_its_counter() -> None:
    """RFC 7296 section 2.13: prf+ is not defined beyond 255 times the size of the prf output."""
    algorithm = PRF["prfsha256"]
    assert len(prf_plus(algorithm, b"key", b"seed", 255 * 32)) == 255 * 32
    with pytest.raises(ValueError, match="at most 8160 bytes"):
        prf_plus(algorithm, b"key", b"seed", 255 * 32 + 1)
