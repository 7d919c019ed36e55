"""More of each kind: files as generators, vendors' instructions and administrators write them."""

from __future__ import annotations

import base64
import io
import json
import plistlib
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from foreign import mobileconfig, sswan
from profile_world import CANARY, Owner

from ikeclient.errors import ProfileError
from ikeclient.profile.formats import ImportFormat
from ikeclient.profile.importers.algorithms import Dialect, read_proposals
from ikeclient.profile.importers.draft import Draft
from ikeclient.profile.importers.foreign_secrets import ipsec_secrets
from ikeclient.profile.importers.identities import AnyIdentity, read_identity
from ikeclient.profile.importers.neighbours import MAX_FILES, Archive, Neighbours
from ikeclient.profile.importers.read import Extras, kind_of, read_directory, read_foreign
from ikeclient.profile.importers.selectors import read_selectors
from ikeclient.profile.importers.signatures import read_signature
from ikeclient.profile.load.load import parse_profile
from ikeclient.profile.model.identities import identity_of
from ikeclient.profile.secrets.typed import decode_psk
from ikeclient.wire.registry import IdType
from ikeclient.wire.text import printable

Write = Callable[..., Path]
NOWHERE = Path("/nonexistent/place/file")


def read(text: str | bytes, source: Path | None = NOWHERE, **arguments: Any) -> Draft:
    data = text.encode() if isinstance(text, str) else text
    draft = read_foreign(data, source=source, **arguments)
    parse_profile(draft.toml("work"))
    return draft


def attached(draft: Draft, key: str) -> bytes | None:
    return next((item.data for item in draft.attachments if item.key[1] == key), None)


def refused(text: str | bytes, **arguments: Any) -> str:
    with pytest.raises(ProfileError) as raised:
        read(text, **arguments)
    return " ".join(raised.value.lines())


@pytest.mark.parametrize(
    ("written", "profile"),
    [
        ("@vpn.example.com", "vpn.example.com"),
        ("fqdn:vpn.example.com", "vpn.example.com"),
        ("dns:vpn.example.com", "vpn.example.com"),
        ("%vpn.example.com", "vpn.example.com"),
        ("%@vpn.example.com", "vpn.example.com"),
        ("@@alice@example.com", "alice@example.com"),
        ("email:alice@example.com", "alice@example.com"),
        ("rfc822:alice@example.com", "alice@example.com"),
        ("userfqdn:alice@example.com", "alice@example.com"),
        ("ipv4:192.0.2.1", "192.0.2.1"),
        ("ipv6:2001:db8::1", "2001:db8::1"),
        ("keyid:office", "keyid:office"),
        ("@[office]", "keyid:office"),
        ("@#6f6666696365", "keyid:office"),
        ("asn1dn:C=CH, CN=gw", "C=CH, CN=gw"),
        ("/C=CH/CN=gw", "C=CH, CN=gw"),
        ("C=CH, O=A#1, CN=gw", "C=CH, O=A#1, CN=gw"),
    ],
)
def test_an_identity_loses_the_prefix_that_says_nothing(written: str, profile: str) -> None:
    assert read_identity(written) == profile
    identity_of(profile, "gateway.identity")


@pytest.mark.parametrize("written", ["%any", "%any6", "0.0.0.0", "*", "*.example.com", "C=CH, CN=*", "%fromcert"])
def test_an_identity_may_be_any(written: str) -> None:
    assert isinstance(read_identity(written), AnyIdentity)


@pytest.mark.parametrize("written", ["xmppaddr:a@b", "ipv4:vpn.example.com", "@#zz", "asn1dn:nonsense", "fqdn:"])
def test_an_identity_that_cannot_be_written_is_refused(written: str) -> None:
    with pytest.raises(ProfileError):
        read_identity(written)


def test_a_key_id_is_not_taken_for_a_name() -> None:
    found = read_identity("keyid:vpn.example.com")
    assert isinstance(found, str)
    assert identity_of(found, "gateway.identity").type == IdType.KEY_ID


@pytest.mark.parametrize(
    ("kind", "dialect", "text", "usable", "left_out"),
    [
        ("ike", "strongswan", "aes256-sha256-modp2048", ["aes256-sha256-modp2048"], []),
        ("ike", "strongswan", "aes128gcm16-sha256-ecp256", ["aes128gcm16-prfsha256-ecp256"], []),
        ("ike", "strongswan", "aes256-aes192-sha1-modp1024-ecp256", ["aes256-sha1-ecp256"], ["aes192", "modp1024"]),
        (
            *("ike", "strongswan", "aes256gcm16-aes256-sha384-ecp384"),
            *(["aes256gcm16-prfsha384-ecp384", "aes256-sha384-ecp384"], []),
        ),
        ("ike", "strongswan", "3des-sha1-modp1024", [], ["3des", "modp1024"]),
        ("ike", "strongswan", "aes256-sha256", [], []),
        ("ike", "strongswan", "aes256-sha384-x25519-ke1_mlkem768", ["aes256-sha384-x25519"], ["ke1_mlkem768"]),
        ("esp", "strongswan", "aes256gcm128-ecp384-esn", ["aes256gcm16-ecp384-esn"], []),
        ("esp", "strongswan", "aes128-sha2_512-prfsha512-ecp256", ["aes128-sha512-ecp256"], []),
        ("esp", "strongswan", "aes256-modp2048", [], []),
        ("esp", "strongswan", "aes128-sha256-modp1024", ["aes128-sha256"], ["modp1024"]),
        ("ike", "libreswan", "aes_gcm256-sha2_256;dh19", ["aes256gcm16-prfsha256-ecp256"], []),
        ("ike", "libreswan", "aes256-sha2_512+sha2_256-dh14+dh19", ["aes256-sha512-sha256-modp2048-ecp256"], []),
        ("ike", "libreswan", "aes256-sha2;modp2048", ["aes256-sha256-modp2048"], []),
        ("ike", "libreswan", "chacha20_poly1305-sha2_512-dh31", ["chacha20poly1305-prfsha512-x25519"], []),
        ("esp", "libreswan", "aes_gcm256-null", ["aes256gcm16"], []),
        ("esp", "libreswan", "aes_gcm_c_256", ["aes256gcm16"], []),
        ("esp", "libreswan", "aes-sha1", ["aes256-aes128-sha1"], []),
        ("esp", "libreswan", "aes256", ["aes256-sha512-sha256"], []),
    ],
)
def test_a_proposal_keeps_what_can_be_run_and_names_the_rest(
    kind: Any, dialect: str, text: str, usable: list[str], left_out: list[str]
) -> None:
    found = read_proposals(kind, text, Dialect(dialect))
    assert (list(found.usable), list(found.left_out)) == (usable, left_out)
    assert bool(found.why) is not bool(usable)
    assert found.post_quantum is ("mlkem" in text)


def test_selectors_are_networks_ranges_and_ports() -> None:
    found = read_selectors(["10.0.0.1-10.0.0.2", "dynamic", "10.1.0.0/16[tcp/80]", "192.0.2.1", "::/0", "what", "a-b"])
    assert found.networks == ("10.0.0.1/32", "10.0.0.2/32", "10.1.0.0/16", "192.0.2.1/32", "::/0")
    assert (found.others, found.limited, found.dynamic) == (("what", "a-b"), ("10.1.0.0/16[tcp/80]",), True)
    assert not found.everything
    assert read_selectors(["0.0.0.0/0", "::/0"]).everything
    assert read_selectors(["10.0.0.0/255.0.0.0"]).networks == ("10.0.0.0/8",)
    assert read_selectors(["::1-ffff::2"]).networks == ()  # more networks than anybody meant


CLIENT = """
conn work
    keyexchange=ikev2
    leftsourceip=%config
    right=vpn.example.com
"""


def ipsec(*settings: str, base: str = CLIENT) -> str:
    return base + "".join(f"    {setting}\n" for setting in settings)


@pytest.mark.parametrize(
    ("text", "section", "expected"),
    [
        (ipsec("authby=secret", "leftid=a"), "gateway", {"address": "vpn.example.com"}),
        (ipsec("authby=secret", "leftid=a", "rightid=%any"), "gateway", {"identity": "%any"}),
        (ipsec("authby=secret", "leftid=a", "keyingtries=%forever"), "session", {}),
        (ipsec("authby=secret", "leftid=a", "forceencaps=yes"), "session", {"encapsulation": "always"}),
        (ipsec("authby=secret", "leftid=a", "mobike=no"), "session", {"mobike": False}),
        (ipsec("leftauth=eap-mschapv2", "eap_identity=%identity", "leftid=a"), "auth", {"identity": "a"}),
        (ipsec("leftauth=eap-tls", "leftid=%a"), "auth", {"method": "eap-tls", "identity": "a"}),
        ("conn w\n  left=%any\n  right=192.0.2.1\n  authby=psk\n  leftid=a\n", "network", {"request": []}),
        ("conn w\n left=192.0.2.1\n right=%defaultroute\n authby=psk\n", "gateway", {"address": "192.0.2.1"}),
        ("conn w\n left=%any\n leftcert=a.pem\n right=gw\n rightcert=gw.pem\n", "gateway", {"address": "gw"}),
        (
            "conn pool\n right=gw\n rightcert=gw\n left=%any\n leftaddresspool=10.0.0.1-10.0.0.9\n"
            "conn road\n left=%defaultroute\n leftcert=road\n also=base\n"
            "conn base\n right=gw\n leftmodecfgclient=yes\n leftid=%fromcert\n rightid=%fromcert\n ikev2=yes\n",
            "network",
            {"request": ["ipv4", "ipv6", "dns"]},
        ),
        ("conn w\n right=%gw.example.com\n authby=psk\n", "gateway", {"address": "gw.example.com"}),
        ("conn w\n right=gw\n leftauth=secret\n rightauth=secret\n ikev2=yes\n", "auth", {"method": "psk"}),
        ("conn w\n right=gw\n leftautheap=tls\n rightauth=rsasig\n ikev2=yes\n", "auth", {"method": "eap-tls"}),
        ("conn w\n\tleft=192.0.2.9\n\tleftcert=a.pem\n\tright=gw\n", "gateway", {"address": "gw"}),
        (
            "conn w\n left=%defaultroute\n leftmodecfgclient=yes\n leftcert=alice.example.com\n right=gw.example.com\n"
            " rightid=@gw.example.com\n ikev2=insist\n leftid=%fromcert\n rightca=%same\n rightsubnet=0.0.0.0/0\n",
            "network",
            {"request": ["ipv4", "ipv6", "dns"], "routes": "all"},
        ),
        (
            "conn base\n ike=aes256-sha256-modp2048!\nconn work\n also=base\n right=192.0.2.1\n authby=psk\n",
            "crypto",
            {"ike": ["aes256-sha256-modp2048"]},
        ),
        (
            "conn lan\n left=127.0.0.1\n right=127.0.0.1\n rightsubnet=192.168.0.0/16\n type=passthrough\n"
            "conn work\n right=192.0.2.1\n authby=psk\n leftid=a\n rightsubnet=10.0.0.0/8\n",
            "network",
            {"routes": ["10.0.0.0/8"], "exclude": ["192.168.0.0/16"]},
        ),
    ],
)  # fmt: skip
def test_ipsec_conf_means_what_its_program_takes_it_for(text: str, section: str, expected: dict[str, Any]) -> None:
    assert read(text).tables[section].items() >= expected.items()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("conn w\n left=192.0.2.1\n right=192.0.2.2\n ikev2=insist\n authby=secret\n", "which side is this machine"),
        ("conn w\n left=%any\n right=%any\n authby=psk\n", "waits for others"),
        ("conn w\n right=%any\n rightsourceip=10.3.0.0/24\n left=%any\n leftcert=gw.pem\n", "waits for others"),
        ("conn rw\n left=192.0.2.1\n leftcert=gw.pem\n right=%any\n", "waits for others"),
        ("conn rw\n left=192.0.2.1\n authby=psk\n right=%any\n rightsourceip=10.3.0.0/16\n", "waits for others"),
        ("conn rw\n right=192.0.2.1\n left=%any\n leftaddresspool=10.0.0.1-10.0.0.9\n", "waits for others"),
        (ipsec("authby=xauthrsasig"), "IKEv1"),
        (ipsec("leftauth=pubkey", "leftauth2=xauth"), "IKEv1"),
        (ipsec("leftauth=pubkey", "rightauth=pubkey", "rightauth2=psk"), "the gateway authenticates in several rounds"),
        (ipsec("leftauth=xauth-eap", "rightauth=pubkey"), "IKEv1"),
        (ipsec("leftauth=eap-mschapv2", "rightauth=psk", "leftid=a"), "pose as the gateway"),
        (ipsec("leftauth=eap-tnc", "rightauth=pubkey", "leftid=a"), "eap-tnc is not supported"),
        (ipsec("ah=sha256"), "AH"),
        (ipsec("ppk=insist", "leftcert=a.pem", "ikev2=insist"), "post-quantum"),
        (ipsec("type=drop"), "drops traffic"),
        ("config setup\n charondebug=all\ninclude /etc/ipsec.d/*.conf\n", "no connection of its own"),
    ],
)  # fmt: skip
def test_ipsec_conf_that_is_no_tunnel_of_ours_is_refused_in_words(text: str, said: str) -> None:
    assert said in refused(text)


def test_a_libreswan_certificate_is_in_a_database() -> None:
    text = "conn w\n left=%defaultroute\n leftcert=alice.example.com\n right=gw.example.com\n ikev2=insist\n"
    draft = read(text)
    assert not draft.has("auth", "certificate")
    assert any("NSS database" in text for text in draft.warnings)
    assert any("NSS database" in text for text in draft.risks)


SWAN = """
connections {
  work {
    version = 2
    remote_addrs = vpn.example.com
    vips = 0.0.0.0
    %s
    local { auth = %s
      id = alice }
    remote { auth = %s
      id = gw.example.com
      %s
    }
    children { %s }
  }
}
"""


def swan(
    *,
    more: str = "",
    ours: str = "psk",
    theirs: str = "psk",
    remote: str = "",
    children: str = "net { remote_ts = 10.0.0.0/8 \n }",
) -> str:
    return SWAN % (more, ours, theirs, remote, children)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (swan(more="version = 1"), "IKEv1"),
        (swan(ours="eap-ttls", theirs="psk"), "pose as the gateway"),
        (swan(ours="pubkey", theirs="eap-tls"), "EAP alone"),
        (swan(ours="eap-md5", theirs="eap-md5"), "EAP alone"),
        (swan(ours="xauth", theirs="pubkey"), "IKEv1"),
        (swan(ours="eap-tnc", theirs="pubkey"), "eap-tnc is not supported"),
        (swan(ours="pubkey", theirs="pubkey", remote="pubkeys = gw.pub"), "raw public keys"),
        (swan(more="local-2 { auth = psk \n } local-3 { auth = psk \n }", ours="pubkey"), "several rounds"),
        (swan(more="ppk_required = yes"), "set ppk_id"),
        (swan(more="mediation = yes"), "mediation"),
        (swan(children="net { ah_proposals = sha256 \n }"), "AH"),
        (swan(children="lan { mode = pass \n remote_ts = 10.0.0.0/8 \n }"), "no tunnel"),
        ("secrets { ike-1 { secret = a \n } }", "secrets only"),
    ],
)
def test_swanctl_conf_that_cannot_be_done_is_refused_in_words(text: str, said: str) -> None:
    assert said in refused(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (swan(ours="pubkey", theirs="pubkey-sha256", remote="cacerts = a.pem"), "signature may be of any kind"),
        (swan(ours="pubkey", theirs="pubkey", remote="ca_id = x\n cacerts = a.pem"), "ca_id"),
        (swan(ours="pubkey", theirs="pubkey", remote="cert_policy = 1.2.3\n cacerts = a.pem"), "cert_policy"),
        (swan(ours="pubkey", theirs="pubkey", remote="certs = gw.pem"), "not limited to gw.pem"),
        (swan(ours="pubkey", theirs="pubkey"), "all public authorities are trusted"),
        (swan(children="a { remote_ts = 10.0.0.0/8 \n } b { remote_ts = 192.0.2.0/24 \n }"), "only the child a"),
        (swan(children="n { remote_ts = 10.0.0.0/8\n local_ts = 192.168.0.0/24 \n }"), "local_ts"),
        (swan(children="n { remote_ts = 10.0.0.0/8 \n } d { mode = drop\n remote_ts = 192.0.2.0/24 \n }"), "drops"),
        (swan(more="proposals = aes256-sha256-x25519-ke1_mlkem768"), "post-quantum"),
    ],
)
def test_what_swanctl_conf_asks_for_and_will_not_be_done_is_a_risk(text: str, said: str) -> None:
    assert any(said in risk for risk in read(text).risks)


def test_what_swanctl_takes_from_its_directories_is_named_there(
    tmp_path: Path, authority: Owner, alice: Owner, write: Write
) -> None:
    for directory in ("x509", "x509ca", "private", "conf.d"):
        (tmp_path / directory).mkdir()
    write("x509ca/root.pem", authority.pem(), 0o644)
    write("x509ca/README", "none")
    write("x509/me.pem", alice.pem(), 0o644)
    write("private/some.key", alice.key_pem())
    write("conf.d/more.conf", "secrets { eap-1 { id = alice \n secret = 0sUzNjcjN0 \n } }")
    text = swan(ours="pubkey", theirs="pubkey").replace("id = alice", "id = alice.example") + "include conf.d/*.conf\n"
    draft = read(text, source=tmp_path / "swanctl.conf")
    assert draft.tables["gateway"]["ca"] == [str(tmp_path / "x509ca/root.pem")]
    assert draft.tables["auth"]["certificate"] == str(tmp_path / "x509/me.pem")
    assert draft.tables["auth"]["key"] == str(tmp_path / "private/some.key")
    assert (draft.risks, draft.warnings) == ([], [])
    below = read(text, source=tmp_path / "conf.d" / "work.conf")
    assert below.tables["auth"]["key"] == str(tmp_path / "private/some.key")


def test_a_pkcs12_file_of_swanctl_brings_its_authorities(
    tmp_path: Path, authority: Owner, alice: Owner, write: Write
) -> None:
    (tmp_path / "pkcs12").mkdir()
    write("pkcs12/me.p12", alice.pkcs12(CANARY.encode(), [authority.certificate]))
    secrets = f'secrets {{ pkcs12-me {{ file = me.p12 \n secret = "{CANARY}" \n }} }}'
    draft = read(swan(ours="pubkey", theirs="pubkey") + secrets, source=tmp_path / "swanctl.conf")
    assert draft.tables["auth"]["certificate"] == str(tmp_path / "pkcs12/me.p12")
    assert attached(draft, "ca") == authority.pem()
    assert attached(draft, "key_passphrase") == CANARY.encode()


SECRETS = f"""
# comment
192.0.2.1 @gw.example.com : PSK "0x6162 # no comment"
%any gw2 : PSK 0sYWJj
alice : EAP {CANARY}   # a comment
bob: EAP "b:c"
: RSA me.key %prompt
: P12 me.p12 'pass word'
: PIN %smartcard1 1234
"""


def test_secrets_are_those_of_the_owner_with_their_own_notation() -> None:
    found = ipsec_secrets(SECRETS)
    assert found.of("psk", ["gw.example.com", "192.0.2.1"]) == b"0x6162 # no comment"
    assert found.of("psk", ["fqdn:gw2"]) == b"abc"
    assert found.of("eap", ["alice"]) == CANARY.encode()
    assert found.of("eap", ["bob"]) == b"b:c"
    assert found.of("eap", ["carol"]) is None
    assert [(each.file, each.value) for each in found.files("key")] == [("me.key", None)]
    assert [(each.file, each.value) for each in found.files("p12")] == [("me.p12", b"pass word")]
    assert CANARY not in repr(found)
    assert any("PIN" in text for text in found.warnings)


def test_nothing_outside_the_directory_is_opened(tmp_path: Path, write: Write) -> None:
    """F2: names, links and archives lead nowhere else."""
    inside = tmp_path / "inside"
    inside.mkdir()
    write("secret.conf", "secrets { ike-1 { secret = S3cr3t-CANARY \n } }")
    (inside / "link.conf").symlink_to(tmp_path / "secret.conf")
    (inside / "up").symlink_to(tmp_path)
    place = Neighbours(inside)
    for name in (
        "../secret.conf",
        "link.conf",
        "up/secret.conf",
        str(tmp_path / "secret.conf"),
        "/etc/passwd",
        "\0",
        "",
    ):
        assert place.read(name) is None
    for pattern in ("../*.conf", "up/*.conf", "/etc/*", str(tmp_path / "*.conf")):
        assert place.matching(pattern) == []
    draft = read(
        swan() + f"include ../*.conf\ninclude link.conf\ninclude {tmp_path}/*.conf\n", source=inside / "a.conf"
    )
    assert CANARY not in repr([item.data for item in draft.attachments])
    assert sum("not read: include" in text for text in draft.warnings) >= 2


@pytest.mark.parametrize("name", ["gone", "work", "later", "connections"])
def test_a_section_that_settings_cannot_be_taken_over_from_is_named(name: str) -> None:
    """A section may be limited by what it takes over, such as the gateway's identity."""
    text = swan().replace("work {", f"work : {name} {{", 1) + "later {\n x = y\n}\n"
    assert f"not taken over: {name} (no such section stands before)" in read(text).warnings
    assert not any("not taken over" in each for each in read(f"base {{\n x = y\n}}\n{swan()}").warnings)


def test_a_connection_that_settings_cannot_be_taken_over_from_is_named() -> None:
    told = read(ipsec("authby=psk", "leftid=a", "also=gone")).warnings
    assert "not taken over: also = gone (there is no such connection in the file)" in told


def test_an_include_that_includes_itself_ends(tmp_path: Path, write: Write) -> None:
    path = write("swanctl.conf", swan() + "include swanctl.conf\n")
    assert read(path.read_bytes(), source=path).name == "work"
    circle = write("ipsec.conf", ipsec("authby=psk", "leftid=a") + "include ipsec.conf\n")
    assert read(circle.read_bytes(), source=circle).name == "work"


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


AZURE = """<?xml version="1.0"?><VpnProfile><VpnServer>gw.vpn.azure.com</VpnServer><VpnType>{kind}</VpnType>
<CaCert>VpnServerRoot</CaCert><Routes>10.1.0.0/16</Routes><Auth>{auth}</Auth>
<CustomDnsServers>10.1.0.4</CustomDnsServers></VpnProfile>"""


def test_azures_zip_is_a_profile_with_its_authority(authority: Owner) -> None:
    settings = AZURE.format(kind="IkeV2,OpenVPN", auth="EapMSCHAPv2").encode()
    data = zipped(
        Generic__VpnSettings=b"",
        **{
            "Generic/VpnSettings.xml": settings,
            "Generic/VpnServerRoot.cer_0": authority.pem(),
            "AzureVPN/azurevpnconfig.xml": b"<AzVpnProfile></AzVpnProfile>",
            "WindowsAmd64/VpnClientSetupAmd64.exe": b"MZ" * 1000,
        },
    )
    draft = read(data, source=Path("/tmp/azure.zip"))
    assert (draft.method, draft.tables["network"]["routes"]) == ("eap-mschapv2", ["10.1.0.0/16"])
    assert draft.tables["network"]["dns_servers"] == ["10.1.0.4"]
    assert attached(draft, "ca") == authority.pem()
    assert "OpenVPN" in refused(AZURE.format(kind="OpenVPN", auth="EAPTLS")).replace("openvpn", "OpenVPN")
    assert "not known" in refused(AZURE.format(kind="IkeV2", auth="what"))


def test_a_copy_of_etc_may_lie_anywhere(tmp_path: Path, write: Write, authority: Owner) -> None:
    (tmp_path / "ipsec.d/cacerts").mkdir(parents=True)
    write("ipsec.d/work.conf", ipsec("leftauth=eap-mschapv2", "rightauth=pubkey", "leftid=alice"))
    write("ipsec.d/cacerts/ca.pem", authority.pem(), 0o644)
    write("ipsec.secrets", "alice : EAP W0rd\n")
    path = write("ipsec.conf", "config setup\ninclude /etc/ipsec.d/*.conf\n")
    draft = read(path.read_bytes(), source=path)
    assert (draft.name, attached(draft, "password")) == ("work", b"W0rd")
    assert draft.tables["gateway"]["ca"] == [str(tmp_path / "ipsec.d/cacerts/ca.pem")]
    assert read_directory(tmp_path).tables == draft.tables
    swanctl = swan(ours="pubkey", theirs="pubkey", remote="cacerts = /etc/ipsec.d/cacerts/ca.pem, /etc/other.pem")
    named = read(swanctl, source=tmp_path / "swanctl.conf").tables["gateway"]["ca"]
    assert named == [str(tmp_path / "ipsec.d/cacerts/ca.pem"), "/etc/other.pem"]
    names = ("ipsec.conf", "ipsec.secrets", "ipsec.d/work.conf", "ipsec.d/cacerts/ca.pem")
    packed = read(zipped(**{f"etc/{name}": (tmp_path / name).read_bytes() for name in names}))
    assert (attached(packed, "password"), attached(packed, "ca")) == (b"W0rd", authority.pem())


def test_archives_are_bounded_and_lead_nowhere() -> None:
    """F2"""
    evil = Archive(zipped(**{"../../etc/x.conf": b"a", "/abs.conf": b"b", "C:\\x": b"c", "ok/a.conf": b"d"}))
    assert evil.everything() == ["ok/a.conf"]
    assert evil.read("../ok/../ok/a.conf") in (None, b"d")
    assert "more than" in refused(zipped(**{f"f{n}": b"" for n in range(MAX_FILES + 1)}))
    bomb = zipped(**{f"f{n}": b"\0" * (4 << 20) for n in range(20)})
    assert len(bomb) < 1 << 20
    assert "more than 64 MiB" in refused(bomb)
    nameless = zipped(a=b"hello").replace(b"\1\0\0\0", b"\0\0\1\0")
    for data in (b"PK\x03\x04" + bytes(100), zipped(a=b"hello")[:-10], nameless):
        refused(data)
    assert "no profile in it" in refused(zipped(a=b"hello"))


def test_a_directory_is_one_profile_or_a_choice(tmp_path: Path, write: Write, authority: Owner) -> None:
    write("a.sswan", sswan(authority))
    write("notes.txt", "hello")
    assert read_directory(tmp_path).slug == "Corp-VPN"
    write("b.sswan", sswan(authority, name="Other"))
    with pytest.raises(ProfileError) as raised:
        read_directory(tmp_path)
    assert raised.value.reason == "it holds a.sswan, b.sswan"
    etc = tmp_path / "etc"
    (etc / "conf.d").mkdir(parents=True)
    write("etc/swanctl.conf", "include conf.d/*.conf\n")
    write("etc/conf.d/work.conf", swan())
    assert read_directory(etc).name == "work"


def test_gaps_are_filled_by_options(authority: Owner, alice: Owner) -> None:
    extras = Extras(
        user="alice", gateway="gw.example.com", authorities=(authority.pem(),), bundle=alice.pkcs12(None), secrets=None
    )
    draft = read(AZURE.format(kind="IkeV2", auth="EAPTLS"), extras=extras)
    assert draft.tables["gateway"] == {"address": "gw.example.com"}
    assert (draft.risks, draft.warnings) == ([], [])
    assert attached(draft, "ca") == authority.pem()
    assert attached(draft, "certificate") == alice.pkcs12(None) or attached(draft, "certificate")
    secrets = Extras(user="alice", secrets=b'alice : EAP "W0rd"')
    eap = read(sswan(authority, local={}), extras=secrets)
    assert (eap.tables["auth"]["user"], attached(eap, "password")) == ("alice", b"W0rd")


def test_a_user_name_fills_in_who_we_are_with_a_key() -> None:
    draft = read(
        mobileconfig({"AuthenticationMethod": "SharedSecret", "SharedSecret": "x" * 9}), extras=Extras(user="a")
    )
    assert draft.tables["auth"]["identity"] == "a"


@pytest.mark.parametrize("certificate_type", ["com.apple.security.scep", "com.apple.security.acme"])
def test_a_certificate_that_each_device_gets_is_not_made_up(certificate_type: str) -> None:
    ike = {"AuthenticationMethod": "Certificate", "PayloadCertificateUUID": "own"}
    draft = read(mobileconfig(ike, {"PayloadType": certificate_type, "PayloadUUID": "own"}))
    assert not draft.has("auth", "certificate")
    assert any(certificate_type in text for text in draft.warnings)


def test_apples_authority_has_to_be_the_one_that_is_named(authority: Owner) -> None:
    root = {"PayloadType": "com.apple.security.root", "PayloadUUID": "ca", "PayloadContent": authority.pem()}
    eap = {"AuthenticationMethod": "None", "ExtendedAuthEnabled": 1, "AuthName": "alice"}
    named = mobileconfig({**eap, "ServerCertificateIssuerCommonName": "Test CA"}, root)
    assert read(named).risks == []
    other = mobileconfig({**eap, "ServerCertificateIssuerCommonName": "Other CA"}, root)
    assert any("'Other CA' alone" in text for text in read(other).risks)
    none = mobileconfig({**eap, "ServerCertificateIssuerCommonName": "Other CA"})
    assert any("all public authorities" in text for text in read(none).risks)
    common = mobileconfig({**eap, "ServerCertificateCommonName": "other.example.com"}, root)
    assert any("common name" in text for text in read(common).risks)


def test_apples_name_servers_come_along() -> None:
    ike = {"AuthenticationMethod": "SharedSecret", "LocalIdentifier": "a"}
    dns = {"ServerAddresses": ["10.0.0.53", "rubbish"], "SupplementalMatchDomains": ["corp.example", ""]}
    network = read(mobileconfig(ike, DNS=dns)).tables["network"]
    assert (network["dns_servers"], network["dns_domains"]) == (["10.0.0.53"], ["corp.example"])
    over = read(mobileconfig(ike, DNS={**dns, "DNSProtocol": "HTTPS"}))
    assert any("HTTPS" in text for text in over.risks)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"AuthenticationMethod": "SharedSecret", "ExtendedAuthEnabled": 1}, "shared secret and then asks for EAP"),
        ({"AuthenticationMethod": "What"}, "'What' is not known"),
    ],
)
def test_what_apples_file_wants_and_cannot_be_done_is_refused(change: dict[str, Any], said: str) -> None:
    assert said in refused(mobileconfig(change))


def test_a_configuration_profile_without_ikev2_says_what_it_holds() -> None:
    other = {"PayloadType": "com.apple.vpn.managed", "VPNType": "L2TP", "PayloadUUID": "x"}
    assert "L2TP" in refused(plistlib.dumps({"PayloadType": "Configuration", "PayloadContent": [other]}))


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le", "utf-32", "utf-8-sig"])
def test_text_of_any_unicode_encoding_is_read(encoding: str) -> None:
    ike = {"AuthenticationMethod": "SharedSecret", "SharedSecret": CANARY, "LocalIdentifier": "a"}
    text = mobileconfig(ike).decode().replace('encoding="UTF-8"', f'encoding="{encoding}"')
    assert attached(read(text.encode(encoding)), "psk") == CANARY.encode()


@pytest.mark.parametrize(
    ("changes", "risk"),
    [
        ({"type": "ikev2-byod-eap"}, "posture"),
        ({"apps": ["org.example"]}, "single apps"),
        ({"split-tunneling": {"block-ipv4": True}}, "IPv4 outside"),
    ],
)
def test_what_the_app_would_enforce_is_a_risk(authority: Owner, changes: dict[str, Any], risk: str) -> None:
    assert any(risk in text for text in read(sswan(authority, **changes)).risks)


def test_a_certificate_and_then_a_password_are_two_authentications(authority: Owner, alice: Owner) -> None:
    bundle = base64.b64encode(alice.pkcs12(None, [authority.certificate])).decode()
    local = {"eap_id": "alice", "shared_secret": CANARY, "p12": bundle}
    draft = read(sswan(authority, type="ikev2-cert-eap", local=local))
    assert draft.method == "certificate"
    assert draft.tables["second_auth"] == {"method": "eap", "user": "alice"}
    assert {item.key for item in draft.attachments} >= {("auth", "certificate"), ("second_auth", "password")}
    assert CANARY not in draft.toml("work")
    profile = parse_profile(draft.toml("work")).profile
    assert profile.second_auth is not None
    assert profile.second_auth.password is not None
    nameless = read(sswan(authority, type="ikev2-cert-eap", local={"p12": bundle}))
    assert any("second_auth.user" in text for text in nameless.warnings)
    named = read(sswan(authority, type="ikev2-cert-eap", local={"p12": bundle}), extras=Extras(user="bob"))
    assert named.tables["second_auth"]["user"] == "bob"


def test_an_app_profile_may_write_lists_as_text(authority: Owner, alice: Owner) -> None:
    folded = base64.encodebytes(alice.pkcs12(None, [authority.certificate])).decode()
    changes = {
        "type": "ikev2-cert",
        "remote": {"addr": "a.example", "cert": base64.b64encode(authority.pem()).decode()},
        "local": {"p12": folded, "rsa-pss": "true"},
        "split-tunneling": {"subnets": "10.0.0.0/8 192.0.2.1-192.0.2.2, ::/0", "block-ipv6": "false"},
    }
    draft = read(json.dumps(json.loads(sswan(authority)) | changes))
    assert draft.tables["network"]["routes"] == ["10.0.0.0/8", "192.0.2.1/32", "192.0.2.2/32", "::/0"]
    assert attached(draft, "ca") == authority.pem()
    assert draft.risks == []


PARAMETERS = """
$VpnServerAddress = "192.0.2.1"
$VpnName = "Algo VPN $VpnServerAddress IKEv2"
$Pass = Read-Host -AsSecureString -Prompt "password"
$addVpnParams = @{
    Name = $VpnName
    ServerAddress = $VpnServerAddress
    TunnelType = "IKEv2"
    AuthenticationMethod = "MachineCertificate"
}
Add-VpnConnection @addVpnParams
$setVpnParams = @{
    ConnectionName = $VpnName
    AuthenticationTransformConstants = "GCMAES256"
    CipherTransformConstants = "GCMAES256"
    EncryptionMethod = "AES256"
    IntegrityCheckMethod = "SHA384"
    DHGroup = "ECP384"
    PfsGroup = "ECP384"
    Force = $true
}
Set-VpnConnectionIPsecConfiguration @setVpnParams
"""
SETTINGS = "-AuthenticationTransformConstants GCMAES128 -CipherTransformConstants GCMAES128 -EncryptionMethod AES256"
BATCH = f"""@echo off
powershell -command "Add-VpnConnection -ServerAddress 'vpn.example.com' -Name 'A B' -AuthenticationMethod Certificate"
powershell -command "Set-VpnConnectionIPsecConfiguration -ConnectionName 'A B' {SETTINGS} \\
    -IntegrityCheckMethod SHA256 -PfsGroup None -DHGroup Group14 -Force"
""".replace("\\\n    ", "")
EAP_TLS = """<EapHostConfig xmlns="http://www.microsoft.com/provisioning/EapHostConfig"><EapMethod>
<Type xmlns="http://www.microsoft.com/provisioning/EapCommon">13</Type></EapMethod></EapHostConfig>"""
PROFILE_XML = f"""<VPNProfile><ProfileName>Contoso</ProfileName><NativeProfile>
<Servers>vpn.contoso.com;Contoso</Servers><NativeProtocolType>IKEv2</NativeProtocolType>
<Authentication><UserMethod>Eap</UserMethod><Eap><Configuration>{EAP_TLS}</Configuration></Eap></Authentication>
<RoutingPolicyType>SplitTunnel</RoutingPolicyType>
<CryptographySuite><AuthenticationTransformConstants>SHA256128</AuthenticationTransformConstants>
<CipherTransformConstants>AES128</CipherTransformConstants><EncryptionMethod>AES128</EncryptionMethod>
<IntegrityCheckMethod>SHA256</IntegrityCheckMethod><DHGroup>Group14</DHGroup><PfsGroup>PFS2048</PfsGroup>
</CryptographySuite>
</NativeProfile><Route><Address>10.0.0.0</Address><PrefixSize>8</PrefixSize></Route>
<Route><Address>10.9.0.0</Address><PrefixSize>16</PrefixSize><ExclusionRoute>true</ExclusionRoute></Route>
<DomainNameInformation><DomainName>.corp.contoso.com</DomainName>
<DnsServers>10.0.0.2,10.0.0.3</DnsServers></DomainNameInformation>
<LockDown>true</LockDown></VPNProfile>"""


def test_a_script_with_hash_tables_is_read_and_not_run() -> None:
    draft = read(PARAMETERS)
    assert (draft.name, draft.method) == ("Algo VPN 192.0.2.1 IKEv2", "certificate")
    assert draft.tables["crypto"] == {"ike": ["aes256-sha384-ecp384"], "esp": ["aes256gcm16-ecp384"]}
    assert draft.tables["network"] == {"routes": "all"}
    assert any("auth.certificate" in text for text in draft.warnings)


def test_a_batch_file_is_read(authority: Owner, alice: Owner) -> None:
    draft = read(BATCH)
    assert draft.tables["gateway"] == {"address": "vpn.example.com"}
    assert draft.tables["crypto"] == {"ike": ["aes256-sha256-modp2048"], "esp": ["aes128gcm16"]}
    bundle = base64.b64encode(alice.pkcs12(None, [authority.certificate])).decode()
    with_keys = read(PARAMETERS.replace("$VpnName =", f'$UserP12Base64 = "{bundle}"\n$VpnName ='))
    assert attached(with_keys, "ca") == authority.pem()
    assert not any("auth.certificate" in text for text in with_keys.warnings)


def test_a_script_that_asks_for_the_address_needs_one() -> None:
    text = '$address = Read-Host -Prompt "Enter: "\nAdd-VpnConnection -Name x -ServerAddress $address -TunnelType IKEv2'
    assert "--gateway HOST" in refused(text)
    assert read(text, extras=Extras(gateway="a.example")).tables["gateway"]["address"] == "a.example"
    assert "L2tp" in refused("Add-VpnConnection -Name x -ServerAddress a `\n -TunnelType L2tp -L2tpPsk x")


def test_profile_xml_is_read_alone_and_inside_a_script() -> None:
    draft = read(PROFILE_XML)
    assert (draft.name, draft.method, draft.tables["gateway"]["address"]) == ("Contoso", "eap-tls", "vpn.contoso.com")
    assert draft.tables["network"] == {
        "routes": ["10.0.0.0/8"],
        "exclude": ["10.9.0.0/16"],
        "dns_servers": ["10.0.0.2", "10.0.0.3"],
        "dns_domains": ["corp.contoso.com"],
    }
    assert draft.tables["crypto"]["esp"] == ["aes128-sha256-modp2048"]
    assert any("LockDown" in text for text in draft.risks)
    script = "$Servers = 'vpn.contoso.com'\n$ProfileXML = '" + PROFILE_XML.replace(
        "vpn.contoso.com", "' + $Servers + '"
    )
    assert read(script + "'").tables["gateway"]["address"] == "vpn.contoso.com"
    bomb = PROFILE_XML.replace("<VPNProfile>", '<!DOCTYPE x [<!ENTITY a "aaaa">]><VPNProfile>', 1)
    assert "document type" in refused(bomb)
    assert "nested too deeply" in refused("<VPNProfile>" + "<a>" * 100)


@pytest.mark.parametrize(("option", "method"), [("-Tls", "eap-tls"), ("-Peap", "eap-peap"), ("", "eap")])
def test_a_script_may_make_its_eap_configuration(option: str, method: str) -> None:
    text = (
        f"$a = New-EapConfiguration {option} -VerifyServerIdentity\nAdd-VpnConnection -Name x -ServerAddress a.example"
    )
    assert read(text + " -TunnelType IKEv2 -AuthenticationMethod Eap -EapConfigXmlStream $a.X").method == method


def test_a_phone_book_holds_connections_of_several_kinds() -> None:
    book = "[Old]\r\nVpnStrategy=3\r\nPhoneNumber=a.example\r\n[Office]\r\nVpnStrategy=7\r\nCustomAuthKey=26\r\n"
    book += "IpPrioritizeRemote=0\r\nPhoneNumber=vpn.example.com\r\n"
    draft = read(book)
    assert (draft.name, draft.method) == ("Office", "eap-mschapv2")
    assert draft.tables["gateway"] == {"address": "vpn.example.com"}
    assert "routes" not in draft.tables["network"]
    assert "no IKEv2" in refused(book.replace("VpnStrategy=7", "VpnStrategy=5"))


NM = """[connection]
id=algo
[vpn]
address=192.0.2.1
certificate=/etc/ca.pem
encap=yes
esp=aes128gcm16-ecp256;aes128-sha2_512-prfsha512-ecp256
ike=aes128gcm16-prfsha512-ecp256;3des-sha1-modp1024
method=key
proposal=yes
usercert=/etc/u.crt
userkey=/etc/u.key
service-type=org.freedesktop.NetworkManager.{service}
[ipv4]
dns=10.0.0.53;
dns-search=corp.example;
"""


def test_networkmanager_with_a_key_and_name_servers() -> None:
    draft = read(NM.format(service="strongswan"))
    assert draft.tables["auth"] == {"method": "certificate", "certificate": "/etc/u.crt", "key": "/etc/u.key"}
    assert draft.tables["crypto"]["esp"] == ["aes128gcm16-ecp256", "aes128-sha512-ecp256"]
    assert draft.tables["network"] == {"request": [], "dns_servers": ["10.0.0.53"], "dns_domains": ["corp.example"]}
    assert draft.tables["session"] == {"encapsulation": "always"}
    assert any("3des-sha1-modp1024" in text for text in draft.warnings)
    assert "no IKEv2" in refused(NM.format(service="openvpn"))


def test_networkmanagers_libreswan_is_read_as_libreswan() -> None:
    text = "[vpn]\nikev2=insist\nleftid=@alice\nright=gw.example.com\nrightid=@gw.example.com\nauthby=secret\n"
    text += "service-type=org.freedesktop.NetworkManager.libreswan\n[vpn-secrets]\npskvalue=a long key\n"
    draft = read(text)
    assert draft.tables["gateway"] == {"address": "gw.example.com", "identity": "gw.example.com"}
    assert (draft.tables["auth"]["identity"], attached(draft, "psk")) == ("alice", b"a long key")
    assert "IKEv1" in refused(text.replace("ikev2=insist\n", ""))


MIKROTIK = """/ip ipsec profile
add dh-group=ecp521 enc-algorithm=aes-256 hash-algorithm=sha512 lifetime=1d name=site \\
    nat-traversal=no
/ip ipsec peer
add address=192.0.2.1/32 exchange-mode=ike2 name=site profile=site
/ip ipsec proposal
add auth-algorithms="" enc-algorithms=aes-256-gcm name=site pfs-group=ecp521
/ip ipsec identity
add auth-method=pre-shared-key my-id=user-fqdn:a@b remote-id=fqdn:gw peer=site secret="a \\"b\\" c"
/ip ipsec policy
add dst-address=192.168.100.0/24 peer=site proposal=site src-address=192.168.200.0/24 tunnel=yes
"""


def test_routeros_sections_and_continued_lines() -> None:
    draft = read(MIKROTIK)
    assert draft.tables["gateway"] == {"address": "192.0.2.1", "identity": "gw"}
    assert draft.tables["crypto"] == {"ike": ["aes256-sha512-ecp521"], "esp": ["aes256gcm16-ecp521"]}
    assert (draft.tables["auth"]["identity"], attached(draft, "psk")) == ("a@b", b'a "b" c')
    assert draft.tables["network"] == {"routes": ["192.168.100.0/24"], "request": []}
    assert "no IKEv2 client" in refused(MIKROTIK.replace("exchange-mode=ike2", "passive=yes"))


IKED = """gw = "gw.example.com"
ikev2 'roadwarrior' active esp \\
  from dynamic to any peer $gw \\
  ikesa enc aes-256 prf hmac-sha2-256 auth hmac-sha2-256 group curve25519 \\
  childsa enc aes-256-gcm group curve25519 \\
  srcid roadwarrior dstid gw.example.com request address any iface lo1   # comment
"""


def test_iked_conf_with_macros_and_algorithms() -> None:
    draft = read(IKED)
    assert draft.tables["gateway"] == {"address": "gw.example.com", "identity": "gw.example.com"}
    assert draft.tables["crypto"] == {"ike": ["aes256-sha256-prfsha256-x25519"], "esp": ["aes256gcm16-x25519"]}
    assert draft.tables["network"] == {"routes": "all"}
    assert any("/etc/iked/ca" in text for text in draft.risks)
    assert "waits for others" in refused(IKED.replace("active", "passive"))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"[Interface]\nPrivateKey = x\n[Peer]\n", "WireGuard"),
        (b"client\nremote a.example 1194\n", "OpenVPN"),
        (b"<AzVpnProfile></AzVpnProfile>", "OpenVPN"),
        (b"remote anonymous {\n}\nsainfo anonymous {\n}\n", "racoon"),
        (b"IPSec gateway a.example\nIPSec ID x\n", "vpnc"),
        (b"[main]\nHost=a.example\nAuthType=1\n", "pcf"),
        (b"alice : EAP secret\n", "--secrets FILE"),
    ],
)
def test_what_is_something_else_is_named(data: bytes, said: str) -> None:
    assert said in refused(data)


def test_a_certificate_alone_is_named(authority: Owner, alice: Owner) -> None:
    assert "--ca FILE" in refused(authority.pem())
    assert "auth.certificate" in refused(alice.pem())


def test_no_kind_is_taken_for_another() -> None:
    assert kind_of(b"include ipsec.d/*.conf\n", "ipsec.conf") is ImportFormat.IPSEC
    assert kind_of(b"include conf.d/*.conf\n", "swanctl.conf") is ImportFormat.SWANCTL


SIZE = 1 << 20  # bytes


def filled(head: bytes, unit: bytes, tail: bytes = b"") -> bytes:
    return head + unit * ((SIZE - len(head) - len(tail) - 10) // len(unit)) + tail


@pytest.mark.parametrize(
    "data",
    [
        filled(b"", b"\n", b"x"),
        filled(b"", b"include x*a*a*a*b\n"),
        filled(b"connections {\n", b"word ", b"\n}"),
        filled(b'connections {\n a = "', b'\\"', b"\n}"),
        filled(b"connections { w { remote_addrs = a\n remote { id = /", b"C=a/", b"\n } } }"),
        filled(b"conn w\n  right=x\n  also=", b"a,", b"\n"),
        filled(b"", b"-----BEGIN PKCS7-----\n"),
        filled(b"", b"-----BEGIN CERTIFICATE-----\n"),
        filled(b"Add-VpnConnection -Name x\n", b"<#"),
        filled(b"Add-VpnConnection -Name x\n", b"@'\n"),
        filled(b"Add-VpnConnection -Name x -ServerAddress a -TunnelType Ikev2\n", b"<Type"),
        b'$a = "%s"\n' % (b"a" * 1000) + b'$a = "$a$a$a$a$a$a$a$a"\n' * 30 + b"Add-VpnConnection -Name $a",
        filled(b"x <VPNProfile>", b"<VPNProfile>"),
        filled(b"<VPNProfile><NativeProfile>", b"a<b/>"),
        filled(b"/ip ipsec peer\nadd ", b"a"),
        filled(b'ikev2 "a" active ', b'"#'),
        filled(
            b"[vpn]\nservice-type=org.freedesktop.NetworkManager.strongswan\nmethod=psk\nproposal=yes\nike=", b"aes256;"
        ),
        filled(b'{"type":"ikev2-eap","remote":{"addr":"a"},"split-tunneling":{"subnets":"', b"::-ffff:: ", b'"}}'),
        b"\x30\x80" + bytes.fromhex("06092a864886f70d010702") + b"\xa0\x80" + b"\x30\x80" * 500_000,
        filled(b"<plist><dict>", b"<key>a</key><dict>"),
    ],
    ids=lambda data: printable(data, 30),
)
def test_no_file_takes_long(data: bytes) -> None:
    """F2: whatever stands in it, reading ends soon."""
    began = time.monotonic()
    with suppress(ProfileError):
        read_foreign(data, source=NOWHERE).toml("work")
    assert time.monotonic() - began < 20  # not a benchmark: a hang


def test_a_container_that_would_be_hashed_for_hours_is_left_alone(authority: Owner) -> None:
    """F2"""
    slow = bytes.fromhex("3013 020103 300e 04020000 02087fffffffffffffff")
    draft = read(sswan(authority, type="ikev2-cert", local={"p12": base64.b64encode(slow).decode()}))
    assert any("hashed more than" in text for text in draft.warnings)


TWO = """
connections { work {
  remote_addrs = vpn.example.com
  ppk_id = office
  ppk_required = yes
  local-2 { round = 2
    auth = eap-mschapv2
    eap_id = alice }
  local-1 { round = 1
    auth = ike:rsa/pss-sha384-sha256
    id = alice.example.com
    certs = alice.pem }
  remote { auth = pubkey
    id = gw.example.com }
  children { net { remote_ts = 10.0.0.0/8
  } }
} }
secrets { eap-1 { id = alice
    secret = W0rd }
  ppk-1 { id = office
    secret = 0x00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff } }
"""


def test_two_authentications_and_a_post_quantum_key_of_swanctl_conf() -> None:
    draft = read(TWO)
    parse_profile(draft.toml("work"))
    assert draft.tables["auth"]["method"] == "certificate"
    assert draft.tables["auth"]["signature"] == ["rsa-pss-sha384", "rsa-pss-sha256"]
    assert draft.tables["second_auth"] == {"method": "eap-mschapv2", "user": "alice"}
    assert draft.tables["ppk"] == {"id": "office", "required": True}
    files = {item.key: item.data for item in draft.attachments}
    assert files["second_auth", "password"] == b"W0rd"
    assert files["ppk", "secret"] == bytes.fromhex("00112233445566778899aabbccddeeff" * 2)
    optional = read(TWO.replace("ppk_required = yes", "").replace("ppk-1", "eap-9"))
    assert optional.tables["ppk"] == {"id": "office", "required": False, "secret": {"prompt": True}}
    assert any("ppk.secret" in text for text in optional.warnings)


@pytest.mark.parametrize(
    ("ours", "theirs", "method", "gateway"),
    [
        ("psk", "pubkey", "psk", "certificate"),
        ("pubkey", "psk", "certificate", "psk"),
        ("eap-tls", "eap-tls", "eap-tls", "eap"),
        ("eap-mschapv2", "eap", "eap-mschapv2", "eap"),
        ("psk", "psk", "psk", None),
        ("eap-peap", "pubkey", "eap-peap", None),
    ],
)
def test_both_sides_may_prove_themselves_differently(ours: str, theirs: str, method: str, gateway: str | None) -> None:
    draft = read(swan(ours=ours, theirs=theirs))
    profile = parse_profile(draft.toml("work")).profile
    assert (profile.auth.method, profile.gateway.auth) == (method, gateway)
    assert (profile.auth.psk is not None) is ("psk" in (ours, theirs))
    same = read(ipsec(f"leftauth={ours}", f"rightauth={theirs}", "leftid=a"))
    assert (same.method, same.tables["gateway"].get("auth")) == (method, gateway)


def test_the_server_behind_eap_has_its_own_name() -> None:
    draft = read(swan(ours="eap-ttls\n aaa_id = radius.example.com", theirs="pubkey"))
    assert draft.tables["auth"]["server_name"] == "radius.example.com"
    assert draft.tables["auth"]["inner"] == "eap-mschapv2"
    assert any("auth.inner" in text for text in draft.warnings)


def test_two_authentications_of_ipsec_conf(tmp_path: Path) -> None:
    text = ipsec("leftauth=pubkey-sha256", "leftcert=a.pem", "leftauth2=eap-mschapv2", "eap_identity=alice")
    secrets = b'alice : EAP "W0rd"\n'
    draft = read(text, extras=Extras(secrets=secrets))
    assert draft.tables["auth"]["signature"] == ["rsa-pkcs1-sha256", "ecdsa-sha256"]
    assert draft.tables["second_auth"] == {"method": "eap-mschapv2", "user": "alice"}
    assert [item.data for item in draft.attachments if item.key == ("second_auth", "password")] == [b"W0rd"]


@pytest.mark.parametrize(("written", "required"), [("insist", True), ("propose", False), ("yes", False)])
def test_a_post_quantum_key_of_libreswan(written: str, required: bool) -> None:
    text = ipsec("authby=rsa-sha2_256", f"ppk={written}", "leftcert=a.pem", "ikev2=insist")
    draft = read(text, extras=Extras(secrets=b': PPKS "office" "0s-a-long-key"\n'))
    assert draft.tables["ppk"] == {"id": "office", "required": required}
    key = next(item.data for item in draft.attachments if item.key == ("ppk", "secret"))
    assert decode_psk(key) == b"0s-a-long-key"
    assert draft.tables["auth"]["signature"] == ["rsa-pss-sha256"]


@pytest.mark.parametrize(("mandatory", "required"), [({}, True), ({"PPKMandatory": 0}, False)])
def test_a_post_quantum_key_of_apples(mandatory: dict[str, int], required: bool) -> None:
    ike = {"AuthenticationMethod": "SharedSecret", "LocalIdentifier": "a", "PPK": "0x-text", "PPKIdentifier": "office"}
    draft = read(mobileconfig({**ike, **mandatory}))
    assert draft.tables["ppk"] == {"id": "office", "required": required}
    key = next(item.data for item in draft.attachments if item.key == ("ppk", "secret"))
    assert decode_psk(key) == b"0x-text"


@pytest.mark.parametrize(
    ("written", "schemes", "left_out"),
    [
        ("pubkey", (), ()),
        ("rsa-3072", (), ()),
        ("rsa/pss", ("rsa-pss-sha256", "rsa-pss-sha384", "rsa-pss-sha512"), ()),
        ("pubkey-sha384-sha1", ("rsa-pkcs1-sha384", "ecdsa-sha384"), ("sha1",)),
        ("ike:rsa/pss-sha256-ecdsa-256-sha384", ("rsa-pss-sha256", "ecdsa-sha384"), ()),
        ("ed25519", ("ed25519",), ()),
        ("pubkey-identity", ("ed25519", "ed448"), ()),
        ("bliss-sha512", (), ("bliss", "sha512")),
    ],
)
def test_words_for_signatures(written: str, schemes: tuple[str, ...], left_out: tuple[str, ...]) -> None:
    found = read_signature(written)
    assert (found.schemes, found.left_out) == (schemes, left_out)


EAP_HOST = """<EapHostConfig xmlns="http://www.microsoft.com/provisioning/EapHostConfig"><EapMethod>
<Type xmlns="http://www.microsoft.com/provisioning/EapCommon">{number}</Type></EapMethod>
<Config xmlns="http://www.microsoft.com/provisioning/EapHostConfig">{config}</Config></EapHostConfig>"""
SERVER = """<ServerValidation><DisableUserPromptForServerValidation>true</DisableUserPromptForServerValidation>
<ServerNames>{names}</ServerNames><TrustedRootCA>aa bb cc</TrustedRootCA></ServerValidation>"""
TWO_NAMES = r"nps.example.com;.*\.example\.com"
PEAP_CONFIG = f"""<Eap xmlns="http://www.microsoft.com/provisioning/BaseEapConnectionPropertiesV1"><Type>25</Type>
<EapType>{SERVER.format(names=TWO_NAMES)}<FastReconnect>true</FastReconnect>
<Eap><Type>13</Type><EapType><ServerValidation><ServerNames>inner.example.com</ServerNames></ServerValidation>
</EapType></Eap><PeapExtensions><IdentityPrivacy><EnableIdentityPrivacy>true</EnableIdentityPrivacy>
<AnonymousUserName>nobody</AnonymousUserName></IdentityPrivacy></PeapExtensions></EapType></Eap>"""
TTLS_CONFIG = f"""<EapTtls>{SERVER.format(names="nps.example.com")}<Phase2Authentication><PAPAuthentication/>
</Phase2Authentication><Phase1Identity><IdentityPrivacy>true</IdentityPrivacy>
<AnonymousIdentity>nobody</AnonymousIdentity></Phase1Identity></EapTtls>"""


@pytest.mark.parametrize(
    ("number", "config", "expected"),
    [
        ("25", PEAP_CONFIG, {"method": "eap-peap", "inner": "tls", "anonymous_identity": "nobody"}),
        ("21", TTLS_CONFIG, {"method": "eap-ttls", "inner": "pap", "anonymous_identity": "nobody"}),
    ],
)
def test_windows_settings_of_eap_come_along(number: str, config: str, expected: dict[str, str]) -> None:
    host = EAP_HOST.format(number=number, config=config)
    expected = {**expected, "server_name": "nps.example.com"}
    for text in (
        PROFILE_XML.replace(EAP_TLS, host),
        f"$x = @'\n{host}\n'@\nAdd-VpnConnection -Name x -ServerAddress a.example -TunnelType IKEv2 "
        "-AuthenticationMethod Eap -EapConfigXmlStream $x",
    ):
        draft = read(text)
        assert draft.tables["auth"] == expected
        assert any("aabbcc" in text for text in draft.risks)
        if number == "25":
            assert any("example" in text and "auth.server_name" in text for text in draft.warnings)
        parse_profile(draft.toml("work"))


def test_windows_eap_within_ttls_and_unknown_methods() -> None:
    inner = EAP_HOST.format(number="26", config="")
    config = f"<EapTtls><Phase2Authentication>{inner}</Phase2Authentication></EapTtls>"
    nested = PROFILE_XML.replace(EAP_TLS, EAP_HOST.format(number="21", config=config))
    assert read(nested).tables["auth"] == {"method": "eap-ttls", "inner": "eap-mschapv2"}
    assert "type 55 " in refused(PROFILE_XML.replace(EAP_TLS, EAP_HOST.format(number="55", config="")))


def test_a_phone_book_names_the_algorithms_of_the_ike_sa() -> None:
    book = "[Office]\r\nVpnStrategy=7\r\nPhoneNumber=vpn.example.com\r\nNumCustomPolicy=1\r\n"
    book += "CustomIPSecPolicies=020000000200000003000000030000000200000003000000\r\n"
    draft = read(book)
    assert draft.tables["crypto"] == {"ike": ["aes128-sha256-modp2048"], "esp": ["aes128-sha256-modp2048"]}
    for numbers, ike, esp in (
        ((2, 4, 3, 5, 2, 0), "aes256-sha256-modp2048", "aes256-sha256"),
        ((3, 6, 5, 8, 5, 6), "aes256gcm16-prfsha384-ecp384", "aes256gcm16-ecp384"),
        ((1, 4, 4, 5, 1, 4), "aes256-sha1-ecp256", "aes256-sha1-ecp256"),
    ):
        written = b"".join(number.to_bytes(4, "little") for number in numbers).hex()
        found = read(book.replace("020000000200000003000000030000000200000003000000", written))
        assert found.tables["crypto"] == {"ike": [ike], "esp": [esp]}
    for damaged in ("0200000002", "zz", "ff" * 24):
        text = book.replace("020000000200000003000000030000000200000003000000", damaged)
        assert any("CustomIPSecPolicies" in warning for warning in read(text).warnings)


def test_how_strictly_revocation_is_checked_is_carried_over(authority: Owner) -> None:
    """C8."""
    app = read(sswan(authority, remote={"addr": "a.example", "revocation": {"strict": True}}))
    strict = read(swan(ours="pubkey", theirs="pubkey", remote="revocation = strict"))
    ifuri = read(swan(ours="pubkey", theirs="pubkey", remote="revocation = ifuri"))
    states = [each.tables["gateway"].get("revocation") for each in (app, strict, ifuri)]
    assert states == ["strict", "strict", "ifuri"]


TOKEN_KEY = """connections {
  w {
    remote_addrs = gw.example.com
    local {
      auth = pubkey
      %s
    }
    remote {
      auth = pubkey
      id = gw.example.com
    }
  }
}
secrets {
  token-1 {
    handle = 0a1B
    %s
  }
}
"""


@pytest.mark.parametrize(
    ("certificate", "token", "key", "warning"),
    [
        ("cert {\n handle = 0a1b\n }", "pin = 1234", {"pkcs11": "pkcs11:id=%0a%1b"}, ""),
        ("cert-2 {\n handle = 0x0A:1b\n }", "pin = 1234", {"pkcs11": "pkcs11:id=%0a%1b"}, ""),
        ("", "pin = 1234", {"pkcs11": "pkcs11:id=%0a%1b"}, ""),
        (
            "cert {\n handle = 0a1b\n slot = 3\n module = /usr/lib/opensc-pkcs11.so\n }",
            "pin = 1234\n slot = 3",
            {"pkcs11": "pkcs11:slot-id=3;id=%0a%1b", "module": "/usr/lib/opensc-pkcs11.so"},
            "",
        ),
        ("cert {\n handle = 0a1b\n }", "module = opensc\n slot = 1", {"pkcs11": "pkcs11:id=%0a%1b"}, "opensc"),
    ],
)
def test_a_key_on_a_token_stays_there(certificate: str, token: str, key: dict[str, str], warning: str) -> None:
    draft = read(TOKEN_KEY % (certificate, token))
    assert draft.tables["auth"]["key"] == key
    assert "certificate" not in draft.tables["auth"]
    assert attached(draft, "pin") == (b"1234" if "pin" in token else None)
    assert warning in " ".join(draft.warnings)
    profile = parse_profile(draft.toml("work")).profile
    assert profile.auth.key is not None
    assert (profile.auth.key.pin is not None) is ("pin" in token)


def test_a_token_whose_handle_is_damaged_is_refused() -> None:
    assert "not hexadecimal" in refused(TOKEN_KEY % ("cert {\n handle = zz\n }", ""))
    assert "no handle" in refused(TOKEN_KEY % ("cert {\n handle = 0x\n }", ""))


@pytest.mark.parametrize(
    ("certificate", "secret", "uri", "pin"),
    [
        ("%smartcard:45", ": PIN %smartcard:45 1234", "pkcs11:id=%45", b"1234"),
        ("%smartcard3@/usr/lib/x.so:0a1b", ': PIN %smartcard:0a1b "12 34"', "pkcs11:slot-id=3;id=%0a%1b", b"12 34"),
        ("%smartcard1:45", ": PIN %smartcard1:45 %prompt", "pkcs11:id=%45", None),
    ],
)
def test_a_smartcard_of_ipsec_conf(certificate: str, secret: str, uri: str, pin: bytes | None) -> None:
    text = f"conn w\n left=%defaultroute\n leftsourceip=%config\n leftcert={certificate}\n right=gw.example.com\n"
    draft = read(text + " rightid=@gw.example.com\n", extras=Extras(secrets=secret.encode()))
    assert draft.tables["auth"]["key"]["pkcs11"] == uri
    assert "certificate" not in draft.tables["auth"]
    assert attached(draft, "pin") == pin


NM_KEY = """[connection]
id=w
type=vpn
[vpn]
service-type=org.freedesktop.NetworkManager.strongswan
address=gw.example.com
virtual=yes
%s
"""


def test_keys_of_networkmanager_on_cards_and_with_the_agent(tmp_path: Path, write: Write, alice: Owner) -> None:
    for written in ("method=smartcard", "method=cert\ncert-source=smartcard"):
        draft = read(NM_KEY % written)
        assert (draft.method, draft.tables["auth"]["key"]["pkcs11"]) == ("certificate", "pkcs11:type=private")
        assert any("auth.key.pkcs11" in text for text in draft.warnings)
        assert kinds_of_key(draft) == ()
    (tmp_path / "alice.pem").write_bytes(alice.pem())
    found = read(NM_KEY % "method=agent\nusercert=alice.pem", source=tmp_path / "w.nmconnection")
    assert found.tables["auth"]["certificate"] == "alice.pem"
    assert found.tables["auth"]["key"]["agent"].startswith("SHA256:")
    unknown = read(NM_KEY % "method=cert\ncert-source=agent\nusercert=/elsewhere/alice.pem")
    assert "key" not in unknown.tables["auth"]
    assert any("ssh-add -l" in text for text in unknown.warnings)


def kinds_of_key(draft: Draft) -> tuple[str, ...]:
    profile = parse_profile(draft.toml("work")).profile
    return tuple(name for name in ("agent", "file") if getattr(profile.auth.key, name) is not None)


@pytest.mark.parametrize(
    ("written", "method"),
    [
        ("eap-sim", "eap-sim"),
        ("eap-aka", "eap-aka"),
        ("eap-aka-3gpp2", "eap-aka"),
        ("eap-18", "eap-sim"),
        ("eap-23", "eap-aka"),
        ("eap-50", "eap-aka-prime"),
        ("eap-13", "eap-tls"),
        ("eap-21", "eap-ttls"),
        ("eap-25", "eap-peap"),
        ("eap-26", "eap-mschapv2"),
        ("eap-6", "eap-gtc"),
    ],
)
def test_eap_methods_are_known_by_name_and_number(written: str, method: str) -> None:
    for draft in (
        read(swan(ours=written, theirs="pubkey")),
        read(ipsec(f"leftauth={written}", "rightauth=pubkey", "leftid=a")),
    ):
        assert draft.method == method
        assert any("auth.sim" in text for text in draft.warnings) is (method in ("eap-sim", "eap-aka", "eap-aka-prime"))
    number = {"eap-sim": "18", "eap-aka": "23", "eap-aka-prime": "50", "eap-gtc": "6"}.get(method)
    if number is not None:
        host = EAP_HOST.format(number=number, config="")
        assert read(PROFILE_XML.replace(EAP_TLS, host)).method == method


@pytest.mark.parametrize(
    ("types", "more", "expected"),
    [
        ([25], {"OuterIdentity": "nobody"}, {"method": "eap-peap", "anonymous_identity": "nobody"}),
        ([21], {}, {"method": "eap-ttls", "inner": "mschapv2"}),
        ([21], {"TTLSInnerAuthentication": "PAP"}, {"method": "eap-ttls", "inner": "pap"}),
        ([21], {"TTLSInnerAuthentication": "EAP"}, {"method": "eap-ttls", "inner": "eap-mschapv2"}),
        ([13], {"TLSTrustedServerNames": ["radius.example.com"]}, {"server_name": "radius.example.com"}),
        ([23], {}, {"method": "eap-aka"}),
        ([18], {}, {"method": "eap-sim"}),
        ([50], {}, {"method": "eap-aka-prime"}),
        ([13, 25], {}, {"method": "eap"}),
        ([25, 43], {}, {"method": "eap-peap"}),
    ],
)
def test_apples_settings_of_eap(types: list[int], more: dict[str, Any], expected: dict[str, str]) -> None:
    eap = {"AcceptEAPTypes": types, **more}
    data = mobileconfig(
        {
            "AuthenticationMethod": "None",
            "ExtendedAuthEnabled": 1,
            "AuthName": "alice",
            "EAPClientConfiguration": eap,
        }
    )
    draft = read(data)
    assert {key: draft.tables["auth"].get(key) for key in expected} == expected
    assert draft.tables["auth"]["user"] == "alice"
    assert any("43" in text for text in draft.warnings) is (43 in types)


@pytest.mark.parametrize(("more", "method"), [("eap=mschapv2", "eap-mschapv2"), ("eap=aka", "eap-aka"), ("", "eap")])
def test_strongswan_4_has_its_eap_method_apart(more: str, method: str) -> None:
    draft = read(ipsec("authby=eap", more or "auto=add", "eap_identity=alice"))
    assert (draft.method, draft.gateway_method) == (method, "certificate")
    assert not any("eap" in text for text in draft.warnings if text.startswith("not carried over"))
