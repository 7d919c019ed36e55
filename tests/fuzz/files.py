"""Fuzz targets: profiles, other clients' profiles, and what is said over control sockets."""

from __future__ import annotations

import base64
import functools
import io
import json
import plistlib
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from foreign import IPSEC, SWANCTL, apple_certificate, apple_psk, sswan
from profile_world import CERTIFICATE, EAP, PSK, common_name, issue

from ikeclient.control import protocol
from ikeclient.errors import IkeclientError, ProfileError
from ikeclient.profile.formats import ImportFormat
from ikeclient.profile.importers.foreign_secrets import ipsec_secrets
from ikeclient.profile.importers.read import kind_of, read_foreign
from ikeclient.profile.load.load import parse_profile
from ikeclient.profile.present import redacted

_TESTS = Path(__file__).resolve().parent.parent
SHIPPED = sorted((_TESTS.parent / "profiles").glob("*.toml"))
WORDS = (
    "",
    "[",
    "[[auth]]",
    "[gateway]",
    "[gateway.address]",
    '"""',
    "= 1",
    "version = 99999999999999999999999999",
    "0x7fffffffffffffffffffffffffffffff",
    "1e400",
    "nan",
    "-0",
    "1979-05-27T07:32:00Z",
    '"\\ud800"',
    '"\\u0000"',
    '"\x1b[31m"',
    '"%n%s%d"',
    "[" * 50,
    "{ a.b.c = { d = [] } }",
    '["10.0.0.0/33", "::/129", "lan", 7]',
    '{ file = "a", env = "b" }',
    "{ prompt = true }",
    '"1h90m9999999999999999999d"',
    '"' + "9" * 5000 + '"',
    "9" * 5000,
    '["aes256gcm16-prfsha384-ecp384-sha1-none"]',
    '"vpn.example.com, [::1]:4500"',
    "{",
    "}",
    "<!DOCTYPE a [<!ENTITY b 'c'>]>",
    "<array>",
    "<data>AAA</data>",
    "<integer>0x</integer>",
    "<date>99999-99-99T99:99:99Z</date>",
    "null",
    "include /dev/zero",
    "also=%default",
    "conn %default",
    "connections {",
    "\u2028",
    "\ufeff",
)


@contextmanager
def _shown() -> Iterator[None]:
    """Let errors pass that can be shown to people."""
    try:
        yield
    except IkeclientError as error:
        if not all(line.isprintable() for line in error.lines()):
            raise AssertionError(error.lines()) from error
        raise


@functools.cache
def profiles() -> tuple[bytes, ...]:
    """Profiles of every kind."""
    return tuple(text.encode() for text in (PSK, EAP, CERTIFICATE, *(path.read_text() for path in SHIPPED)))


def read_profile(data: bytes) -> object:
    """TOML of anybody's making: a profile, or an error that names the place (F1, F2)."""
    with _shown():
        found = parse_profile(data.decode("utf-8", "replace"))
    assert json.dumps(redacted(found.profile), default=str)
    return len(found.profile.__class__.__name__)


FILES = _TESTS / "profile" / "files"


@functools.cache
def _foreign() -> tuple[bytes, ...]:
    root = issue(common_name("Corp Root"))
    alice = issue(common_name("alice"), root)
    return (
        apple_psk(),
        apple_certificate(root, alice),
        plistlib.dumps(plistlib.loads(apple_psk()), fmt=plistlib.FMT_BINARY),
        sswan(root),
        sswan(root, local={"p12": base64.b64encode(alice.pkcs12(None)).decode(), "id": "alice"}, type="ikev2-cert"),
        SWANCTL.encode(),
        IPSEC.encode(),
        alice.pkcs12(None),
        *(path.read_bytes() for path in sorted(FILES.iterdir())),
    )


@functools.cache
def foreign(kind: ImportFormat) -> tuple[bytes, ...]:
    """The examples of one kind of file."""
    found = []
    for data in _foreign():
        with suppress(ProfileError):
            if kind_of(data) == kind:
                found.append(data)
    return tuple(found)


def read_as(kind: ImportFormat) -> Callable[[bytes], object]:
    """What reads one kind of file: a profile that can be read back, or an error (F1)."""

    def check(data: bytes) -> object:
        with suppress(ProfileError):
            kind_of(data)
        with _shown():
            draft = read_foreign(data, kind)
        text = draft.toml("work")
        assert all(warning.isprintable() for warning in draft.warnings), draft.warnings
        parse_profile(text)
        return len(draft.warnings)

    return check


@functools.cache
def archives() -> tuple[bytes, ...]:
    """What administrators send: archives with profiles, certificates and other things."""
    found = []
    for names in (
        ("swanctl/swanctl.conf", "swanctl/x509ca/a.pem"),
        ("ipsec.conf", "ipsec.secrets"),
        ("a/VpnSettings.xml",),
    ):
        written = io.BytesIO()
        with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in names:
                content = {"swanctl.conf": SWANCTL, "ipsec.conf": IPSEC}.get(name.rpartition("/")[2], ': PSK "abc"\n')
                archive.writestr(name, (FILES / "83-azure-VpnSettings.xml").read_text() if ".xml" in name else content)
        found.append(written.getvalue())
    return tuple(found)


def read_archive(data: bytes) -> object:
    """An archive of anybody: the one profile in it, or an error."""
    return len(read_foreign(b"PK\3\4" + data[4:]).warnings)


def secrets() -> list[bytes]:
    """The file of secrets beside ipsec.conf."""
    return [data for data in _foreign() if b" : PSK" in data or b": EAP" in data]


def read_secrets(data: bytes) -> object:
    """Secrets of other clients are read or passed over, and never shown."""
    found = ipsec_secrets(data.decode("utf-8", "replace"))
    assert b"\0S3cr3t" not in repr(found).encode()
    return type(found).__name__


CONTROL = [
    protocol.encode(protocol.request(protocol.Command.STATUS)),
    protocol.encode(protocol.success({"tunnels": [{"name": "work", "mtu": 1400}]})),
    protocol.encode(protocol.failure("\x1b[31m no")),
    b'{"version":1,"request":{"status":{}},"more":[[[[[]]]]]}\n',
    b"[" * 2_000,
    b"9" * 5_000,
    b'{"version": 1e999}',
]


def read_control(data: bytes) -> object:
    """Requests on a control socket are known commands, or refused in words that may be sent back (O15)."""
    with suppress(IkeclientError):
        protocol.socket_path(Path("/run/ikeclient"), data.decode("utf-8", "replace"))
    with _shown():
        return protocol.parse_request(data)
