"""An error about a key says where that was given, also when it is found late: in a file that the key names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from profile_world import CERTIFICATE, EAP, PSK

from ikeclient.errors import ProfileError
from ikeclient.process.profile_source import ProfileSource
from ikeclient.profile.load.check import check_profile
from ikeclient.profile.load.load import load_profile
from ikeclient.profile.load.places import Places

Write = Callable[..., Path]


@pytest.mark.parametrize(
    ("profile", "key", "gone", "overrides"),
    [
        (PSK, "auth.psk", "psk", []),
        (EAP, "auth.password", "pw", []),
        (EAP, "gateway.ca", "ca.pem", []),
        (CERTIFICATE, "auth.certificate", "alice.pem", []),
        (CERTIFICATE, "auth.key", "alice.key", []),
        (PSK.replace('identity = "', 'identity = "asn1dn:'), "auth.identity", None, []),
        (PSK, "session.up", None, ['session.up=[["/nonexistent"]]']),
        (PSK, "auth.psk", None, ["auth.psk.file=/nonexistent"]),
    ],
)
def test_what_is_found_wrong_in_files_names_the_line_and_the_key(
    profile: str, key: str, gone: str | None, overrides: list[str], write: Write, place: Path
) -> None:
    """`connect` and `profile validate` alike: the name of a file alone does not tell whose it is."""
    path = write("work.toml", profile)
    if gone is not None:
        (place / gone).unlink()
    name = key.rpartition(".")[2]
    number = next((at for at, line in enumerate(profile.split("\n"), 1) if line.startswith(f"{name} =")), None)
    expected = f"{'--set' if overrides else f'{path}:{number}'}: key '{key}'"
    with pytest.raises(ProfileError) as raised:
        ProfileSource(str(path), overrides).read()
    assert raised.value.message.startswith(expected)
    with pytest.raises(ProfileError) as checked:
        check_profile(load_profile(str(path), overrides)).require()
    assert checked.value.message.startswith(expected)


def test_a_key_that_an_option_misspells_is_the_options_fault(write: Write) -> None:
    """The file has no such section."""
    path = write("work.toml", PSK)
    with pytest.raises(ProfileError, match=r"^--set: key 'gatway' is unknown$"):
        load_profile(str(path), ["gatway.port=1"])


def test_what_is_no_key_has_the_file_alone() -> None:
    places = Places(name="work.toml", text="version = 1\n")
    with pytest.raises(ProfileError, match=r"^work\.toml: there is no trust store$"), places.told():
        raise ProfileError("there is no trust store")


def test_a_file_that_people_do_not_know_is_not_named() -> None:
    """An imported profile is a file for a moment only."""
    said = r"^key 'auth\.psk': it is empty$"
    with pytest.raises(ProfileError, match=said), Places().told(), ProfileError.about(("auth", "psk")):
        raise ProfileError("it is empty")


def test_a_file_without_a_certificate_is_told_in_words(write: Write) -> None:
    """Neither a text, nor half a certificate, leads to the names of a library's types."""
    path = write("work.toml", EAP)
    for content in (b"root:x:0:0:root\n", b"\x30\x82\x05"):
        (path.parent / "ca.pem").write_bytes(content)
        with pytest.raises(ProfileError) as raised:
            ProfileSource(str(path), []).read()
        assert not re.search(r"[{}]|ParseError", "\n".join(raised.value.lines()))
