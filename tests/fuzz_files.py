"""Fuzz targets: profiles, other clients' profiles, and what is said over control sockets."""

from __future__ import annotations

import base64
import functools
import json
import plistlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import TypeVar

from foreign import IPSEC, SWANCTL, apple_certificate, apple_psk, sswan
from fuzz_damage import damaged, garbled
from profile_world import CERTIFICATE, EAP, PSK, common_name, issue

from ikeclient.control import protocol
from ikeclient.errors import IkeclientError, ParseError, ProfileError
from ikeclient.profile.importers.read import Kind, kind_of, read_foreign
from ikeclient.profile.load.load import LoadedProfile, parse_profile
from ikeclient.profile.present import redacted

T = TypeVar("T")
R = TypeVar("R")
SHIPPED = sorted((Path(__file__).resolve().parent.parent / "profiles").glob("*.toml"))
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


def outcome(read: Callable[[T], R], data: T) -> R | ProfileError | ParseError:
    """What comes out, be it one of the documented errors."""
    try:
        return read(data)
    except (ProfileError, ParseError) as error:
        return error


@functools.cache
def _profiles() -> tuple[str, ...]:
    return (PSK, EAP, CERTIFICATE, *(path.read_text() for path in SHIPPED))


def profile(random: Random) -> None:
    """TOML of anybody's making: a profile, or an error that names the place (F1, F2)."""
    text = garbled(random, random.choice(_profiles()), WORDS)
    if random.random() < 0.2:
        text = damaged(random, text.encode()).decode("utf-8", "replace")
    found = outcome(parse_profile, text)
    if isinstance(found, LoadedProfile):
        assert json.dumps(redacted(found.profile), default=str)
    else:
        assert all(line.isprintable() for line in found.lines()), found.lines()


FILES = Path(__file__).parent / "profile" / "files"


@functools.cache
def _foreign() -> tuple[bytes, ...]:
    root = issue(common_name("Corp Root"))
    alice = issue(common_name("alice"), root)
    return (
        apple_psk(),
        apple_certificate(root, alice),
        plistlib.dumps(plistlib.loads(apple_psk()), fmt=plistlib.FMT_XML, sort_keys=False),
        sswan(root),
        sswan(root, local={"p12": base64.b64encode(alice.pkcs12(None)).decode(), "id": "alice"}, type="ikev2-cert"),
        SWANCTL.encode(),
        IPSEC.encode(),
        *(path.read_bytes() for path in sorted(FILES.iterdir())),
    )


def imports(random: Random) -> None:
    """Files of other clients: a profile that can be read back, or an error (F1)."""
    data = random.choice(_foreign())
    if random.random() < 0.7:
        data = garbled(random, data.decode("utf-8", "surrogateescape"), WORDS).encode("utf-8", "surrogatepass")
    if random.random() < 0.4:
        data = damaged(random, data)
    with suppress(ProfileError):
        kind = random.choice(list(Kind)) if random.random() < 0.1 else kind_of(data)
        text = read_foreign(data, kind).toml("work")
        parse_profile(text)


def control(random: Random) -> None:
    """Requests and replies on a control socket (O15)."""
    line = protocol.encode(
        random.choice(
            (
                protocol.request(random.choice(list(protocol.Command))),
                protocol.success({"tunnels": [{"name": "work", "mtu": 1400}]}),
                protocol.failure("\x1b[31m no"),
                {"version": random.choice((1, 2, True, 1.0, None, "1")), "request": ["status"]},
                {"version": 1, "request": {"status": {}}, "more": [[[[[]]]]]},
            )
        )
    )
    odd = (b"[" * 100_000, b"9" * 5_000, b'{"version": 1e999}', b"NaN", b'"\\ud800"', b"\xff\xfe{\0}\0", b"{}" * 9)
    data = damaged(random, line) if random.random() < 0.8 else random.choice(odd)
    for read in (protocol.decode, protocol.parse_request):
        found = outcome(read, data)
        assert not isinstance(found, IkeclientError) or found.message.isprintable()
    with suppress(IkeclientError):
        protocol.socket_path(Path("/run/ikeclient"), data.decode("utf-8", "replace"))
