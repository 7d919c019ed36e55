from __future__ import annotations

import pytest
from profile_world import is_clause

from ikeclient.crypto.algorithms.transforms import ENCRYPTION, INTEGRITY, KEY_EXCHANGE, PRF, AlgorithmProposal
from ikeclient.errors import ProfileError
from ikeclient.profile.model import proposals


def keywords(proposal: AlgorithmProposal) -> list[list[str]]:
    parts = (proposal.encryption, proposal.integrity, proposal.prf, proposal.key_exchange)
    return [[algorithm.keyword for algorithm in part] for part in parts]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aes256gcm16-prfsha384-ecp384", [["aes256gcm16"], [], ["prfsha384"], ["ecp384"]]),
        ("aes128gcm16-x25519", [["aes128gcm16"], [], ["prfsha256", "prfsha384", "prfsha512"], ["x25519"]]),
        ("aes256-sha256-modp2048", [["aes256"], ["sha256"], ["prfsha256"], ["modp2048"]]),
        (
            "aes256-aes128-sha256-sha1-modp2048-ecp256",
            [["aes256", "aes128"], ["sha256", "sha1"], ["prfsha256", "prfsha1"], ["modp2048", "ecp256"]],
        ),
        ("aes256-sha512-prfsha256-x448", [["aes256"], ["sha512"], ["prfsha256"], ["x448"]]),
        ("AES256-SHA2_256-curve25519", [["aes256"], ["sha256"], ["prfsha256"], ["x25519"]]),
        ("aes-aes128-sha-modp2048", [["aes128"], ["sha1"], ["prfsha1"], ["modp2048"]]),
        (
            "chacha20poly1305-aes256ccm16-prfsha256-ecp521",
            [["chacha20poly1305", "aes256ccm16"], [], ["prfsha256"], ["ecp521"]],
        ),
    ],
)
def test_ike_proposals_are_read_as_swanctl_reads_them(text: str, expected: list[list[str]]) -> None:
    assert keywords(proposals.parse_ike(text)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("aes256gcm16", [["aes256gcm16"], [], [], []]),
        ("aes256gcm16-ecp384-x25519", [["aes256gcm16"], [], [], ["ecp384", "x25519"]]),
        ("aes128-sha1-esn", [["aes128"], ["sha1"], [], []]),
        ("aes256-sha384-sha256-esn-noesn", [["aes256"], ["sha384", "sha256"], [], []]),
    ],
)
def test_esp_proposals_may_name_key_exchanges_and_sequence_numbers(text: str, expected: list[list[str]]) -> None:
    assert keywords(proposals.parse_esp(text)) == expected


@pytest.mark.parametrize(
    ("kind", "text", "named", "hint"),
    [
        ("ike", "aes256-sha256", "no key exchange", "modp2048"),
        ("ike", "aes256-modp2048", "aes256 without an integrity", "sha256"),
        ("esp", "aes256", "aes256 without an integrity", "sha256"),
        ("esp", "sha256-modp2048", "no encryption", "aes256"),
        ("ike", "aes256gcm16-sha256-ecp256", "aes256gcm16 with sha256", "prfsha256"),
        ("esp", "aes256gcm16-sha256", "aes256gcm16 with sha256", "by itself"),
        ("ike", "aes256-aes256gcm16-sha256-ecp256", "mixes aes256gcm16 with aes256", "separate proposals"),
        ("ike", "aes257-sha256-ecp256", '"aes257"', "did you mean aes256"),
        ("ike", "aes256-sha256-modp1025", '"modp1025"', "supported: encryption"),
        ("ike", "aes256-sha256-ecp256-esn", "esn", None),
        ("esp", "aes256gcm16-prfsha256", "prfsha256", None),
        ("ike", "aes256-sha256-ecp256,aes128gcm16-x25519", "comma", "item of its own"),
        ("ike", "", "empty", "supported"),
        ("ike", "-", '""', "supported"),
        ("ike", "x" * 2000, "more than", None),
        ("ike", "a\x1b[2J-sha256", "is no known algorithm", "supported"),
    ],
)  # fmt: skip
def test_impossible_proposals_name_the_keyword_and_what_is_supported(
    kind: str, text: str, named: str, hint: str | None
) -> None:
    """F4: impossible string, unknown algorithm, AEAD with integrity, no Diffie-Hellman."""
    parse = proposals.parse_ike if kind == "ike" else proposals.parse_esp
    with pytest.raises(ProfileError) as raised:
        parse(text)
    assert named in raised.value.message
    assert all(is_clause(line) for line in raised.value.lines())
    if hint:
        assert hint in (raised.value.hint or "")


@pytest.mark.parametrize("keyword", ["3des", "modp1024", "modp1536", "modp2048s256"])
def test_what_rfc_8247_discourages_is_known_and_refused(keyword: str) -> None:
    """F4: only weak algorithms."""
    with pytest.raises(
        ProfileError, match=f"names {keyword}: known, but not supported because RFC 8247 discourages it"
    ):
        proposals.parse_ike(f"aes256-sha256-{keyword}")


@pytest.mark.parametrize("keyword", ["des", "md5", "prfmd5", "modp768", "null"])
def test_what_rfc_8247_forbids_is_known_and_refused(keyword: str) -> None:
    with pytest.raises(ProfileError, match="RFC 8247 forbids it"):
        proposals.parse_ike(f"{keyword}-modp2048")


@pytest.mark.parametrize(
    "keyword", ["aes192", "aes128gcm8", "camellia256", "aesxcbc", "ke1_mlkem768", "ecp256bp", "prfaesxcbc"]
)
def test_what_others_know_is_not_called_unknown(keyword: str) -> None:
    with pytest.raises(ProfileError, match="known, but not supported by this version"):
        proposals.parse_ike(f"aes256-sha256-{keyword}-ecp256")


def test_the_supported_keywords_are_all_in_the_list() -> None:
    listed = proposals.supported("ike")
    assert all(keyword in listed for table in (ENCRYPTION, INTEGRITY, PRF, KEY_EXCHANGE) for keyword in table)


def test_every_supported_keyword_can_be_used() -> None:
    for keyword, algorithm in ENCRYPTION.items():
        assert proposals.parse_esp(keyword if algorithm.aead else f"{keyword}-sha256").encryption == (algorithm,)
    for keyword in (*INTEGRITY, *PRF, *KEY_EXCHANGE):
        text = "-".join(dict.fromkeys(("aes256", "sha256", "modp2048", keyword)))
        assert keyword in str(keywords(proposals.parse_ike(text)))


def test_extended_sequence_numbers_are_wanted_unless_all_proposals_say_no() -> None:
    assert proposals.offers_esn(["aes256gcm16"])
    assert proposals.offers_esn(["aes256gcm16-esn", "aes128gcm16"])
    assert proposals.offers_esn(["aes256gcm16-esn-noesn"])
    assert not proposals.offers_esn(["aes256gcm16-noesn"])
    with pytest.raises(ProfileError, match="disagree"):
        proposals.offers_esn(["aes256gcm16-noesn", "aes128gcm16-esn"])


def test_the_defaults_hold_nothing_discouraged_and_what_every_gateway_must_have() -> None:
    """RFC 8247 sections 2.1 to 2.4: its MUST algorithms without MUST-, SHOULD NOT and MUST NOT."""
    ike = [keywords(proposals.parse_ike(text)) for text in proposals.DEFAULT_IKE]
    esp = [keywords(proposals.parse_esp(text)) for text in proposals.DEFAULT_ESP]
    named = {keyword for proposal in ike + esp for part in proposal for keyword in part}
    assert not named & {"sha1", "prfsha1", *proposals.REFUSED}
    assert {"aes128", "aes256", "sha256", "prfsha256", "modp2048"} <= {k for part in ike[-1] for k in part}
    for proposal in ike:
        assert {"ecp384", "ecp256", "x25519", "modp2048"} <= set(proposal[3])
        assert {"prfsha256", "prfsha384", "prfsha512"} == set(proposal[2])
    assert [bool(proposal[1]) for proposal in ike] == [False, True]


def test_each_default_keeps_aeads_and_other_ciphers_apart() -> None:
    for text in proposals.DEFAULT_IKE:
        assert len({e.aead for e in proposals.parse_ike(text).encryption}) == 1
    for text in proposals.DEFAULT_ESP:
        assert len({e.aead for e in proposals.parse_esp(text).encryption}) == 1
