import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.wire.text import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"Welcome to the office", "Welcome to the office"),
        ("Zugang für Ärzte ✓", "Zugang für Ärzte ✓"),
        (b"\x1b[2J\x1b]0;root\x07", r"\x1b[2J\x1b]0;root\x07"),
        (b"ok\rerror: fake\nline", r"ok\rerror: fake\nline"),
        (b"\xff\xfe nul\0tab\t", r"\xff\xfe nul\x00tab\t"),
        (b"\xc2\x9b31m", r"\x9b31m"),  # CSI as one C1 character
        (b"\xed\xa0\x80", r"\xed\xa0\x80"),  # an encoded surrogate is not UTF-8
        ("user\u202egpj.exe", r"user\u202egpj.exe"),  # reverses the reading order
        ("a\u2028b\u200bc\U000e0041", r"a\u2028b\u200bc\U000e0041"),
        ("\ud800", r"\ud800"),
        ("DOMAIN\\alice", "DOMAIN\\alice"),
        (b"", ""),
    ],
)
def test_hostile_text_becomes_one_harmless_line(text: bytes | str, shown: str) -> None:
    """K15, E5: control characters, ESC, CR, invalid UTF-8."""
    assert printable(text) == shown


@pytest.mark.parametrize("text", [b"A" * 65536, "A" * 65536, b"\x1b" * 65536, b"\xff" * 65536, "€" * 65536])
def test_64_kilobytes_of_text_are_cut_to_256_characters(text: bytes | str) -> None:
    """K15: truncated at 256."""
    shown = printable(text)
    assert 250 < len(shown) <= 256
    assert shown.endswith("…")


def test_text_that_fits_exactly_is_not_cut() -> None:
    assert printable(b"A" * 256) == "A" * 256
    assert printable(b"A" * 257) == "A" * 255 + "…"
    assert printable("€" * 256) == "€" * 256
    assert printable("€" * 256 + "!") == "€" * 255 + "…"


def test_an_escape_is_never_cut_in_the_middle() -> None:
    assert printable(b"abc\x1b\x1b", limit=10) == r"abc\x1b…"


@given(st.one_of(st.binary(max_size=600), st.text(st.characters(), max_size=600)), st.integers(1, 80))
def test_the_result_is_always_printable_and_bounded(text: bytes | str, limit: int) -> None:
    """K15."""
    shown = printable(text, limit)
    assert len(shown) <= limit
    assert shown.isprintable()
    assert not any(unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in shown)
    shown.encode("utf-8")
