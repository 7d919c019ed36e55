"""Profiles of other clients become ours; what cannot be said is a warning; hostile ones are one clear error."""

from __future__ import annotations

import json
import plistlib
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from foreign import IPSEC, SWANCTL, apple_certificate, apple_psk, mobileconfig, sswan
from hypothesis import given
from hypothesis import strategies as st
from profile_world import CANARY, Owner, is_clause

from ikeclient.errors import IkeclientError, ProfileError
from ikeclient.ike.config import CertificateAuth, EapAuth, PskAuth, TrustedCertificate
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.formats import MAX_LENGTH, ImportFormat
from ikeclient.profile.importers.conf import parse_conf
from ikeclient.profile.importers.draft import Draft
from ikeclient.profile.importers.read import kind_of, read_foreign
from ikeclient.profile.load.load import LoadedProfile, parse_profile
from ikeclient.profile.model.proposals import DEFAULT_IKE

Write = Callable[..., Path]


def loaded(draft: Draft) -> LoadedProfile:
    """The profile that an import would write."""
    text = draft.toml("work")
    assert CANARY not in text
    assert CANARY not in repr(draft.attachments)
    assert CANARY not in "".join(draft.warnings)
    return parse_profile(text)


def compiled(draft: Draft, write: Write) -> CompiledProfile:
    """The configuration that comes of it, its secrets from the files beside it."""
    for item in draft.attachments:
        write(f"work.{item.suffix}", item.data)
    return compile_profile(loaded(draft).profile, write("work.toml", draft.toml("work")).parent, None)


def failure(data: bytes, **arguments: Any) -> IkeclientError:
    began = time.monotonic()
    with pytest.raises(ProfileError) as raised:
        read_foreign(data, **arguments)
    assert time.monotonic() - began < 20  # not a benchmark: a hang
    lines = raised.value.lines()
    assert len(lines) <= 3
    assert all(is_clause(line) and line.isprintable() for line in lines)
    assert CANARY not in "".join(lines)
    return raised.value


def test_apples_shared_secret_becomes_a_profile(write: Write) -> None:
    draft = read_foreign(apple_psk())
    profile = loaded(draft).profile
    assert draft.slug == "Example-VPN"
    assert (profile.gateway.address, profile.auth.identity) == (("vpn.example.com",), "alice@example.com")
    assert profile.crypto.ike == ("aes256gcm16-prfsha384-ecp384",)
    assert profile.crypto.esp == ("aes256-sha256-ecp256",)
    assert (profile.session.liveness, profile.session.mobike, profile.session.rekey_ike) == (600, False, 86400)
    assert profile.network.routes == "all"
    assert [warning.split(" (")[0] for warning in draft.warnings] == ["not carried over: OnDemandEnabled"]
    assert draft.risks == []
    auth = compiled(draft, write).ike.auth
    assert isinstance(auth, PskAuth)
    assert auth.psk == CANARY.encode()


def test_apples_certificate_comes_with_key_passphrase_and_authority(
    write: Write, authority: Owner, alice: Owner
) -> None:
    draft = read_foreign(apple_certificate(authority, alice))
    assert draft.warnings == []
    ike = compiled(draft, write).ike
    auth, theirs = ike.auth, ike.gateway.auth
    assert isinstance(auth, CertificateAuth)
    assert isinstance(theirs, TrustedCertificate)
    assert [each.subject for each in theirs.trust.anchors] == ["CN=Test CA"]
    assert auth.chain[0].subject == "CN=alice"


def test_apples_user_name_and_password(write: Write) -> None:
    ike = {"AuthenticationMethod": "None", "ExtendedAuthEnabled": 1, "AuthName": "alice", "AuthPassword": CANARY}
    root = {"PayloadType": "com.apple.security.root", "PayloadUUID": "ca", "PayloadContent": b"rubbish"}
    wifi = {"PayloadType": "com.apple.wifi.managed", "PayloadUUID": "w"}
    draft = read_foreign(mobileconfig(ike, root, wifi))
    assert (loaded(draft).profile.auth.method, loaded(draft).profile.auth.user) == ("eap", "alice")
    assert [item.suffix for item in draft.attachments] == ["pw"]
    assert any("certificate of an authority cannot be used" in text for text in draft.risks)
    assert any("com.apple.wifi.managed" in warning for warning in draft.warnings)


def test_one_of_several_vpns_has_to_be_named() -> None:
    both = plistlib.loads(apple_psk())
    other = {**both["PayloadContent"][0], "UserDefinedName": "Other"}
    both["PayloadContent"].append(other)
    data = plistlib.dumps(both)
    assert failure(data).reason == "it holds Example VPN, Other"
    assert read_foreign(data, connection="Other").name == "Other"
    assert "it holds Example VPN, Other" in failure(data, connection="third").lines()


def test_a_signed_message_without_content_is_one_clear_error() -> None:
    """F2"""
    head = bytes.fromhex("06092a864886f70d010702")
    assert "damaged" in failure(b"\x30\x80" + head + bytes(100)).message
    assert "damaged" in failure(b"\x30\x82\x10\x00" + head + b"\x24\x80" * 2000).message


def test_strongswans_android_profile_becomes_a_profile(write: Write, authority: Owner) -> None:
    draft = read_foreign(sswan(authority))
    profile = loaded(draft).profile
    assert draft.slug == "Corp-VPN"
    assert (profile.gateway.identity, profile.gateway.port) == ("gw.example.com", 4500)
    assert (profile.auth.method, profile.auth.user, profile.auth.identity) == ("eap", "alice", "alice@example.com")
    assert profile.crypto.ike == ("aes256-sha256-modp2048", "aes256gcm16-prfsha384-ecp384")
    assert [str(route) for route in profile.network.routes] == ["10.0.0.0/8", "2001:db8::/32"]
    assert profile.network.mtu == 1300
    assert any("3des-sha1-modp1024" in text for text in draft.warnings)
    assert any("IPv6 outside the tunnel" in text for text in draft.risks)
    assert [str(server) for server in profile.network.dns_servers] == ["192.0.2.53"]
    [bundle] = draft.attachments
    config = compile_profile(profile, write("work.ca.pem", bundle.data).parent, None, stdin_password=CANARY)
    assert isinstance(config.ike.auth, EapAuth)
    assert isinstance(config.ike.gateway.auth, TrustedCertificate)
    assert len(config.ike.gateway.auth.trust) == 1


def test_swanctl_conf_becomes_a_profile(write: Write) -> None:
    draft = read_foreign(SWANCTL.encode(), source=Path("/etc/swanctl/conf.d/client.conf"), connection="work")
    profile = loaded(draft).profile
    assert profile.gateway.address == ("vpn.example.com", "192.0.2.1")
    assert profile.gateway.ca == ("/etc/swanctl/x509ca/corp.pem",)
    assert (profile.auth.method, profile.auth.user, profile.auth.identity) == (
        *("eap-mschapv2", "alice", "alice@example.com"),
    )
    assert profile.crypto.ike == ("aes256gcm16-prfsha384-ecp384", *DEFAULT_IKE)
    assert [str(route) for route in profile.network.routes] == ["10.0.0.0/8", "192.168.7.0/24"]
    assert (profile.session.liveness, profile.session.rekey_ike, profile.session.retry) == (120, 28800, "forever")
    assert profile.network.request == ("ipv4", "ipv6", "dns")
    [password] = draft.attachments
    assert password.data == f'{CANARY} # not a "comment"'.encode()
    said = "\n".join(draft.warnings)
    for word in ("reauth_time", "updown", "include conf.d"):
        assert word in said


def test_a_pre_shared_key_of_swanctl_stays_as_it_is_written(write: Write) -> None:
    text = (
        "connections { w { remote_addrs = 192.0.2.1\n local { auth = psk\n id = a } "
        "remote { auth = psk\n id = %any } } }\n"
        "secrets { ike-1 { id = a\n secret = 0sc2VjcmV0IGtleQ== } }"
    )
    auth = compiled(read_foreign(text.encode()), write).ike.auth
    assert isinstance(auth, PskAuth)
    assert auth.psk == b"secret key"


def test_ipsec_conf_becomes_a_profile() -> None:
    draft = read_foreign(IPSEC.encode(), connection="work")
    profile = loaded(draft).profile
    assert kind_of(IPSEC.encode()) is ImportFormat.IPSEC
    assert (profile.gateway.address, profile.gateway.identity) == (("vpn.example.com",), "gw.example.com")
    assert (profile.auth.method, profile.auth.user) == ("eap-mschapv2", "alice")
    assert (profile.crypto.ike, profile.crypto.esp) == (("aes256gcm16-prfsha384-ecp384",), ("aes256gcm16",))
    assert [str(route) for route in profile.network.routes] == ["10.0.0.0/8", "192.168.7.0/24"]
    assert profile.session.liveness == 40
    said = "\n".join(draft.warnings)
    for word in ("ipsec.secrets", "updown", "xauth_identity"):
        assert word in said
    assert failure(IPSEC.encode()).reason == "it holds base, work"


@pytest.mark.parametrize(
    "text",
    [
        "conn x\n  keyexchange=ikev1\n  right=a",
        "conn x\nright=a",
        "conn x\n" + "  a=b\n" * 20_000,
        "conn %default\n a=b",
    ],
)
def test_an_ipsec_conf_that_cannot_be_used_is_one_clear_error(text: str) -> None:
    """F1, F2"""
    failure(text.encode())


def test_without_files_secrets_are_asked_for(authority: Owner, alice: Owner) -> None:
    text, warnings = read_foreign(apple_psk()).toml_alone()
    source = parse_profile(text).profile.auth.psk
    assert source is not None
    assert source.prompt
    assert [warning.split(" (")[0] for warning in warnings] == ["left out: the pre-shared key"]
    assert CANARY not in text


def test_kinds_are_told_by_their_content(authority: Owner) -> None:
    assert kind_of(apple_psk()) is ImportFormat.MOBILECONFIG
    assert kind_of(b"\xef\xbb\xbf" + sswan(authority)) is ImportFormat.SSWAN
    assert kind_of(SWANCTL.encode()) is ImportFormat.SWANCTL
    assert failure(b"Dear customer, your VPN is ready").hint == f"known are {', '.join(ImportFormat)}"


BOMB = b"""<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<plist version="1.0"><dict><key>PayloadContent</key><string>&b;</string></dict></plist>"""
OUTSIDE = b"""<?xml version="1.0"?><!DOCTYPE plist [<!ENTITY a SYSTEM "file:///etc/passwd">]>
<plist version="1.0"><dict><key>PayloadContent</key><string>&a;</string></dict></plist>"""
DOUBLING = b"s0 { k = 1 }\n" + b"".join(
    b"s%d { a : s%d { }\n b : s%d { }\n}\n" % (n, n - 1, n - 1) for n in range(1, 60)
)


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"   \n", b"\0" * 100, b"\xff\xfe\x00", b"x" * (MAX_LENGTH + 1)),
        *(BOMB, OUTSIDE, b"<plist>" + b"<array>" * 100_000, b"bplist00" + bytes(40)),
        *(b"{" * 100_000, b'{"type": ' + b"9" * 10_000 + b"}", b"[1]", b'{"type": "ikev2-eap", "remote": 3}'),
        *(b'{"type": ["x"]}', b'{"type": "ikev2-psk"}', b'{"type": "ikev2-cert", "local": {"p12": "???"}}'),
        *(
            b"connections { a {" * 5000,
            b"connections {\n}}}",
            b"connections {",
            b"connections { a { remote_addrs = %any } }",
        ),
        *(b"connections { w { version = 1 } }", b"connections {" + b"a = 1\n" * 20_000, DOUBLING + b"connections {\n}"),
    ],
)
def test_hostile_files_are_one_clear_error(data: bytes) -> None:
    """F1, F2: nothing expands, nothing hangs, nothing that a file names is opened."""
    failure(data)


@pytest.mark.parametrize(
    "change",
    [
        {"RemoteAddress": "-oProxyCommand=x"},
        {"RemoteAddress": 7},
        {"AuthenticationMethod": "Magic"},
        {"IKESecurityAssociationParameters": "none"},
        {"SharedSecret": ["x"]},
        {"DisableMOBIKE": "perhaps"},
        {"RemoteAddress": "vpn.example.com\nx"},
    ],
)
def test_values_of_the_wrong_kind_are_refused(change: dict[str, Any]) -> None:
    """F2, F3"""
    base = {"AuthenticationMethod": "SharedSecret", "SharedSecret": CANARY, "LocalIdentifier": "a"}
    with pytest.raises(ProfileError):
        loaded(read_foreign(mobileconfig({**base, **change})))


def test_a_name_cannot_lead_anywhere(authority: Owner) -> None:
    for name in ("../../etc/cron.d/x", "/etc/passwd", "..", "-rf", "\x1b[31m", "a" * 500, "\u202egnp"):
        slug = read_foreign(sswan(authority, name=name)).slug
        assert "/" not in slug
        assert not slug.startswith((".", "-"))
        assert slug.isascii()
        assert 0 < len(slug) <= 48


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=10,
)


@given(key=st.sampled_from(["name", "remote", "local", "ike-proposal", "mtu", "split-tunneling"]), value=JSON)
def test_any_value_anywhere_is_a_profile_or_an_error(authority: Owner, key: str, value: object) -> None:
    """F2"""
    data = json.loads(sswan(authority)) | {key: value}
    with suppress(ProfileError):
        loaded(read_foreign(json.dumps(data).encode()))


@given(st.text(alphabet='ab{}=:#"\\\n, ', max_size=60))
def test_any_text_is_sections_or_an_error(text: str) -> None:
    """F2"""
    with suppress(ProfileError):
        parse_conf(text, [])
