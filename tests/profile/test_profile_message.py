"""A compiled profile between two processes of ours: every kind of it arrives as it was."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from ikeclient.crypto.sign.schemes import Family
from ikeclient.ike.config import CertificateAuth, TrustedCertificate
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.author import Author
from ikeclient.profile.load.load import load_profile
from ikeclient.profile.message import decode, encode

HEAD = """version = 1
[gateway]
address = ["vpn.example.com", "2001:db8::7"]
[auth]
"""
PSK = 'method = "psk"\nidentity = "alice"\npsk = { file = "secret" }\n'
EAP = 'method = "eap"\nidentity = "alice@example.com"\npassword = { file = "secret" }\n'
CERTIFICATE = 'method = "certificate"\ncertificate = "certificate.pem"\nkey = "key.pem"\nsignature = ["ecdsa-sha256"]\n'
REST = """[network]
routes = ["10.0.0.0/8", "fd00::/8"]
exclude = ["lan", "10.1.0.0/16"]
dns_servers = ["10.0.0.53", "fd00::53"]
[session]
retry = 3
up = [["/bin/true", "a"], ["/bin/true"]]
"""


def compiled(place: Path, text: str) -> CompiledProfile:
    for name in ("secret", "key.pem"):
        (place / name).touch(mode=0o600)
    (place / "secret").write_bytes(b"pa\xc3\xa4ssword")
    request = ("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=alice")
    files = ("-keyout", str(place / "key.pem"), "-out", str(place / "certificate.pem"))
    subprocess.run(["openssl", *request, *files], check=True, capture_output=True, timeout=60)
    (place / "work.toml").write_text(text)
    loaded = load_profile(str(place / "work.toml"), ["gateway.ca=certificate.pem"])
    return compile_profile(loaded.profile, loaded.base_dir, None, name=loaded.name)


@pytest.mark.parametrize("auth", [PSK, EAP, CERTIFICATE])
@pytest.mark.parametrize("rest", ["", REST])
def test_a_profile_arrives_as_it_was(tmp_path: Path, auth: str, rest: str) -> None:
    profile = compiled(tmp_path, HEAD + auth + rest)
    if rest:
        author = Author(uid=7, gid=8, groups=(9,), name="eve", given=frozenset({("auth", "psk")}))
        profile = replace(profile, session=replace(profile.session, runs_as=author))
    arrived = decode(json.loads(json.dumps(encode(profile))))
    assert arrived == profile
    if isinstance(arrived.ike.auth, CertificateAuth):
        assert Family.ECDSA in arrived.ike.auth.key.public_key.families
        assert isinstance(arrived.ike.gateway.auth, TrustedCertificate)
        assert arrived.ike.gateway.auth.trust.anchors == arrived.ike.auth.chain


@pytest.mark.parametrize("part", ["key", "chain", "trust"])
def test_a_damaged_profile_is_an_error(tmp_path: Path, part: str) -> None:
    data = json.loads(json.dumps(encode(compiled(tmp_path, HEAD + CERTIFICATE))))
    auth = data["profile"]["ike"]["auth"]
    auth[part] = "AAAA" if part == "key" else ["AAAA"]
    with pytest.raises(ValueError, match=r"none of the types|not a profile"):
        decode(data)
