"""Files of other clients with what they mean to the program they were made for, one for each kind of surprise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ikeclient.errors import ProfileError
from ikeclient.profile.importers.draft import Draft
from ikeclient.profile.importers.read import Extras, read_foreign
from ikeclient.profile.importers.stage import staged
from ikeclient.profile.load.check import check_profile
from ikeclient.profile.load.load import parse_profile
from ikeclient.profile.secrets.typed import decode_psk

FILES = Path(__file__).with_name("files")


def read(name: str, **extras: Any) -> Draft:
    source = FILES / name
    return read_foreign(source.read_bytes(), source=source, extras=Extras(**extras))


def attached(draft: Draft, key: str) -> bytes | None:
    return next((item.data for item in draft.attachments if item.key[1] == key), None)


# What the profile holds, of the keys that are named here.
EXPECTED: dict[str, dict[str, Any]] = {
    "01-rightid-at.ipsec.conf": {
        "gateway": {"address": "vpn.example.com", "identity": "vpn.example.com"},
        "auth": {"method": "eap-mschapv2", "user": "alice"},
    },
    "02-rightid-percent.ipsec.conf": {
        "gateway": {"identity": "vpn.example.com"},
        "auth": {"identity": "alice", "user": "alice"},
    },
    "04-id-with-hash.ipsec.conf": {"gateway": {"identity": "C=CH, O=A#1, CN=gw"}, "auth": {"method": "psk"}},
    "05-swapped.ipsec.conf": {
        "gateway": {"address": "vpn.example.com", "identity": "vpn.example.com"},
        "auth": {"identity": "alice@example.com", "method": "psk"},
        "network": {"routes": ["10.0.0.0/8"]},
    },
    "06-cert-directories.ipsec.conf": {
        "auth": {"method": "certificate", "certificate": str(FILES / "ipsec.d/certs/alice.pem")},
    },
    "08-include.ipsec.conf": {"gateway": {"address": "vpn.example.com"}},
    "14-libreswan-proposals.ipsec.conf": {
        "crypto": {"ike": ["aes256gcm16-prfsha256-ecp256", "aes256-sha256-modp2048"], "esp": ["aes256gcm16"]},
    },
    "16-subnets-list.ipsec.conf": {"network": {"routes": ["10.0.0.0/8", "192.168.0.0/16", "::/0"]}},
    "17-keyingtries.ipsec.conf": {"session": {}},
    "20-ca-inside-p12.sswan": {"auth": {"method": "certificate"}},
    "22-ranges.sswan": {
        "network": {
            "routes": ["10.0.0.0/8", "172.16.0.1/32", "172.16.0.2/31", "172.16.0.4/30", "172.16.0.8/31"],
        }
    },
    "23-block-both.sswan": {"network": {"routes": "all"}},
    "25-eap-tls.sswan": {"auth": {"method": "eap-tls", "identity": "alice"}},
    "26-eap-any-no-user.sswan": {"auth": {"method": "eap"}},
    "30-eap-method-certificate.mobileconfig": {"auth": {"method": "eap", "user": "alice"}},
    "31-psk-0x.mobileconfig": {"auth": {"method": "psk"}},
    "32-psk-0s.mobileconfig": {"auth": {"method": "psk"}},
    "34-none-means-psk.mobileconfig": {"auth": {"method": "psk", "identity": "alice"}},
    "35-revocation.mobileconfig": {"auth": {"method": "eap"}, "gateway": {"revocation": "relaxed"}},
    "36-ike-params-only.mobileconfig": {
        "crypto": {"ike": ["aes256-sha512-modp4096"], "esp": ["aes256-sha512-modp4096"]},
    },
    "37-alwayson.mobileconfig": {"gateway": {"address": "vpn.example.com"}, "auth": {"method": "psk"}},
    "39-utf16.mobileconfig": {"gateway": {"address": "vpn.example.com"}, "auth": {"method": "psk"}},
    "40-binary.mobileconfig": {"gateway": {"address": "vpn.example.com"}, "auth": {"method": "psk"}},
    "41-signed-der.mobileconfig": {"gateway": {"address": "vpn.example.com"}, "auth": {"method": "psk"}},
    "44-per-app.mobileconfig": {"auth": {"method": "certificate"}},
    "45-nothing-lost.mobileconfig": {"auth": {"method": "psk"}},
    "50-no-vips.swanctl.conf": {"network": {"request": [], "routes": ["10.0.0.0/8"]}},
    "51-psk-no-remote-id.swanctl.conf": {"gateway": {"identity": "%any"}},
    "54-eap-only.swanctl.conf": {"gateway": {"auth": "eap"}, "auth": {"method": "eap-mschapv2"}},
    "55-revocation-strict.swanctl.conf": {"auth": {"method": "eap-mschapv2"}, "gateway": {"revocation": "strict"}},
    "56-bypass-child-first.swanctl.conf": {"network": {"routes": ["10.0.0.0/8"], "exclude": ["192.168.0.0/16"]}},
    "58-local-ts.swanctl.conf": {"network": {"routes": ["10.0.0.0/8"]}},
    "59-ts-default-of-one-family.swanctl.conf": {"network": {"routes": ["10.0.0.0/8", "::/0"]}},
    "61-one-bad-keyword.swanctl.conf": {"crypto": {"ike": ["aes256-sha256-sha1-modp2048"]}},
    "62-id-prefixes.swanctl.conf": {
        "gateway": {"identity": "vpn.example.com"},
        "auth": {"identity": "alice@example.com"},
    },
    "64-eap-any.swanctl.conf": {"auth": {"method": "eap"}, "gateway": {"ca": [str(FILES / "x509ca/ca.pem")]}},
    "65-authorities.swanctl.conf": {"gateway": {"ca": [str(FILES / "x509ca/corp.pem")]}},
    "80-networkmanager.nmconnection": {
        "gateway": {"address": "vpn.example.com", "identity": "vpn.example.com", "ca": ["/etc/corp/ca.pem"]},
        "auth": {"method": "eap", "user": "alice"},
        "crypto": {"ike": ["aes256-sha256-modp2048"], "esp": ["aes256-sha256"]},
        "network": {"routes": ["10.0.0.0/8"]},
    },
    "81-windows.ps1": {
        "gateway": {"address": "vpn.example.com"},
        "auth": {"method": "eap"},
        "crypto": {"ike": ["aes256-sha256-modp2048"], "esp": ["aes256-sha256"]},
        "network": {"routes": ["10.0.0.0/8"]},
    },
    "83-azure-VpnSettings.xml": {
        "gateway": {"address": "azuregateway-0011.vpn.azure.com", "ca": [str(FILES / "VpnServerRoot.cer")]},
        "auth": {"method": "eap-tls"},
        "network": {"routes": ["10.1.0.0/16", "10.2.0.0/16"]},
    },
    "85-mikrotik.rsc": {
        "gateway": {"address": "vpn.example.com"},
        "auth": {"method": "eap-mschapv2", "user": "alice"},
        "crypto": {"ike": ["aes256-sha256-modp2048"]},
    },
    "86-iked.conf": {
        "gateway": {"address": "vpn.example.com", "identity": "vpn.example.com"},
        "auth": {"method": "psk", "identity": "alice@example.com"},
        "network": {"routes": ["10.0.0.0/8"]},
    },
}
# What a file must not become: keys that were invented once.
ABSENT: dict[str, tuple[str, str]] = {
    "17-keyingtries.ipsec.conf": ("session", "retry"),
    "30-eap-method-certificate.mobileconfig": ("auth", "certificate"),
    "83-azure-VpnSettings.xml": ("auth", "certificate"),
    "85-mikrotik.rsc": ("auth", "certificate"),
}
REFUSED: dict[str, str] = {
    "09-xauth.ipsec.conf": "XAuth and aggressive mode are IKEv1",
    "10-authby-null.ipsec.conf": "AUTH_NULL",
    "12-passthrough.ipsec.conf": "bypass policy",
    "15-rsasigkey.ipsec.conf": "raw public keys",
    "42-p12-alone.p12": "PKCS#12",
    "46-encrypted.mobileconfig": "encrypted for one device",
    "53-eap-and-psk.swanctl.conf": "the gateway with a pre-shared key",
    "67-stock-include-only.swanctl.conf": "it includes conf.d/*.conf",
    "87-ipsec.secrets": "--secrets FILE",
}
RISKS: dict[str, str] = {
    "01-rightid-at.ipsec.conf": "gateway.ca is not set, so all public authorities are trusted",
    "37-alwayson.mobileconfig": "always-on is not carried over",
    "41-signed-der.mobileconfig": "signed by O=Corp, CN=vpn.example.com, not verified",
    "44-per-app.mobileconfig": "for single apps",
    "51-psk-no-remote-id.swanctl.conf": "gateway.identity is %any",
    "58-local-ts.swanctl.conf": "local_ts = 192.168.7.0/24",
    "65-authorities.swanctl.conf": "corp crl_uris",
    "83-azure-VpnSettings.xml": "authority VpnServerRoot is not beside the file",
}
WARNINGS: dict[str, str] = {
    "08-include.ipsec.conf": "not read: include /etc/ipsec.d/*.conf",
    "17-keyingtries.ipsec.conf": "keyingtries = 1",
    "26-eap-any-no-user.sswan": "the user name is not in the file",
    "61-one-bad-keyword.swanctl.conf": "aes192, modp1024",
    "64-eap-any.swanctl.conf": "EAP-MD5 and EAP-GTC",
}
SILENT = ("23-block-both.sswan", "45-nothing-lost.mobileconfig", "36-ike-params-only.mobileconfig")


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_becomes_what_it_means_to_its_own_program(name: str) -> None:
    draft = read(name, ask=lambda _: "secret")
    parse_profile(draft.toml("work"))
    for section, keys in EXPECTED[name].items():
        found = draft.tables[section]
        assert {key: found.get(key) for key in keys} == keys
    if name in ABSENT:
        section, key = ABSENT[name]
        assert not draft.has(section, key)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_done_is_refused_in_words(name: str) -> None:
    with pytest.raises(ProfileError) as raised:
        read(name)
    assert REFUSED[name] in " ".join(raised.value.lines())


@pytest.mark.parametrize("name", RISKS)
def test_what_protects_less_is_told_first(name: str) -> None:
    assert any(RISKS[name] in text for text in read(name).risks)


@pytest.mark.parametrize("name", WARNINGS)
def test_what_is_lost_is_told(name: str) -> None:
    assert any(WARNINGS[name] in text for text in read(name).warnings)


@pytest.mark.parametrize("name", SILENT)
def test_nothing_is_said_about_what_is_carried_over_or_off(name: str) -> None:
    draft = read(name)
    assert draft.warnings == []
    assert draft.risks == []


def test_every_file_has_an_expectation() -> None:
    others = {"70-export-gateway-routes.toml", "71-export-all-routes.toml", "72-export-p12.toml", "pass", "pw"}
    assert {path.name for path in FILES.iterdir()} == {*EXPECTED, *REFUSED, *others}


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("31-psk-0x.mobileconfig", b"0xdeadbeef12345678"),
        ("32-psk-0s.mobileconfig", b"0s-my-secret"),
        ("34-none-means-psk.mobileconfig", b"a-long-shared-secret"),
        ("86-iked.conf", b"a-long-shared-secret"),
    ],
)
def test_a_pre_shared_key_is_the_bytes_that_its_program_takes(name: str, secret: bytes) -> None:
    written = attached(read(name), "psk")
    assert written is not None
    assert decode_psk(written) == secret


@pytest.mark.parametrize(
    "name", ["30-eap-method-certificate.mobileconfig", "80-networkmanager.nmconnection", "85-mikrotik.rsc"]
)
def test_a_password_comes_along(name: str) -> None:
    assert attached(read(name), "password") == b"W0rd"


def test_authorities_inside_a_container_are_trusted_or_their_loss_is_told() -> None:
    opened = read("20-ca-inside-p12.sswan", ask=lambda _: "secret")
    assert (attached(opened, "ca") or b"").startswith(b"-----BEGIN CERTIFICATE-----")
    assert opened.risks == []
    closed = read("20-ca-inside-p12.sswan")
    assert attached(closed, "ca") is None
    assert any("all public authorities are trusted" in text for text in closed.risks)


def test_a_container_and_a_gateway_are_a_profile() -> None:
    draft = read("42-p12-alone.p12", gateway="vpn.example.com", ask=lambda _: "secret")
    assert draft.tables["gateway"]["address"] == "vpn.example.com"
    assert draft.method == "certificate"
    assert attached(draft, "ca")


@pytest.mark.parametrize(
    ("name", "missing", "error"),
    [
        ("06-cert-directories.ipsec.conf", ("auth.certificate",), ""),
        ("23-block-both.sswan", (), ""),
        ("25-eap-tls.sswan", (), ""),
        ("26-eap-any-no-user.sswan", ("auth.user",), ""),
        ("50-no-vips.swanctl.conf", (), ""),
        ("64-eap-any.swanctl.conf", ("gateway.ca",), ""),
        ("65-authorities.swanctl.conf", ("gateway.ca", "auth.certificate"), ""),
        ("80-networkmanager.nmconnection", ("gateway.ca",), ""),
    ],
)
def test_what_connect_would_miss_is_told_by_the_same_checks(name: str, missing: tuple[str, ...], error: str) -> None:
    with staged(read(name, ask=lambda _: "secret"), "work", environ={}) as loaded:
        check = check_profile(loaded)
    assert check.missing == missing
    assert (error in check.error.message) if error and check.error else (check.error is None and not error)
    assert check.ready is (not missing and not error)


def test_what_is_left_out_is_told_before_anybody_is_asked() -> None:
    draft = read("59-ts-default-of-one-family.swanctl.conf")
    draft.leave_out()
    with staged(draft, "work", environ={}) as loaded:
        check = check_profile(loaded)
    assert check.ready
    assert any("::/0 is left out" in text for text in check.warnings)


def test_secrets_come_from_the_file_beside_or_from_the_one_that_is_given(tmp_path: Path) -> None:
    source = tmp_path / "ipsec.conf"
    source.write_bytes((FILES / "01-rightid-at.ipsec.conf").read_bytes())
    secrets = (FILES / "87-ipsec.secrets").read_bytes()
    (tmp_path / "ipsec.secrets").write_bytes(secrets)
    assert attached(read_foreign(source.read_bytes(), source=source), "password") == b"W0rd"
    (tmp_path / "ipsec.secrets").unlink()
    assert attached(read_foreign(source.read_bytes(), source=source), "password") is None
    given = read_foreign(source.read_bytes(), source=source, extras=Extras(secrets=secrets))
    assert attached(given, "password") == b"W0rd"
    certificate = read("06-cert-directories.ipsec.conf", secrets=secrets)
    assert certificate.tables["auth"]["key"] == str(FILES / "ipsec.d/private/alice.key")
    assert attached(certificate, "key_passphrase") == b"secret"
    swapped = read("05-swapped.ipsec.conf", secrets=secrets)
    assert attached(swapped, "psk") == b"a-long-shared-secret"
