"""The example profiles load, compile and stay what they are shown for."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import NameOID

from ikeclient.ike.config import CertificateAuth, EapAuth, EapOnly, PskAuth
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.load import load_profile, parse_profile
from ikeclient.profile.model.methods import SUPPORTED

PROFILES = Path(__file__).resolve().parent.parent / "profiles"
ELSEWHERE = ("lab", "pkcs11-token")  # compiled in the lab, and beside a token (tests/signer)
MADE_BY_HAND = sorted(path for path in PROFILES.glob("*.toml") if path.stem not in ELSEWHERE)


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """A directory with every file that an example names."""
    key = ed25519.Ed25519PrivateKey.generate()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "alice")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, None)
    )
    assert not isinstance(certificate.signature_hash_algorithm, hashes.SHA1)
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    for file, content in {
        "psk.secret": b"correct horse battery staple\n",
        "alice.secret": b"correct horse\n",
        "ppk.secret": b"0s" + base64.b64encode(bytes(range(32))) + b"\n",
        "alice.pem": pem,
        "corp-ca.pem": pem,
        "alice.key": private,
    }.items():
        (tmp_path / file).write_bytes(content)
        (tmp_path / file).chmod(0o600)
    (tmp_path / "ask-card").write_text("#!/bin/sh\n")
    (tmp_path / "ask-card").chmod(0o700)
    return tmp_path


def compiled(name: str, secrets: Path, monkeypatch: pytest.MonkeyPatch) -> CompiledProfile:
    monkeypatch.setattr("ikeclient.profile.secrets.credentials.SYSTEM_TRUST", (secrets / "corp-ca.pem",))
    loaded = load_profile(str(PROFILES / f"{name}.toml"))
    return compile_profile(loaded.profile, secrets, None, name=loaded.name)


def test_there_is_an_example_for_each_way_to_connect() -> None:
    names = {"psk", "certificate", "split-tunnel", "full-tunnel", "eap-only", "two-factors", "post-quantum"}
    assert names | {"kill-switch"} <= {path.stem for path in MADE_BY_HAND}
    shown = {parse_profile(path.read_text()).profile.auth.method for path in MADE_BY_HAND}
    assert set(SUPPORTED) - shown == {"eap", "eap-md5", "eap-sim", "eap-aka-prime"}, (
        "these are names for others, too weak to be shown, or written as eap-aka is"
    )


@pytest.mark.parametrize("path", MADE_BY_HAND, ids=lambda path: path.stem)
def test_an_example_loads_and_compiles_without_a_warning(
    path: Path, secrets: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = compiled(path.stem, secrets, monkeypatch)
    assert result.name == path.stem
    assert result.warnings == ()
    assert parse_profile(path.read_text()).warnings == ()


@pytest.mark.parametrize("path", sorted(PROFILES.glob("*.toml")), ids=lambda path: path.stem)
def test_an_example_explains_itself(path: Path) -> None:
    text = path.read_text()
    assert text.startswith("# ")
    assert len(text.splitlines()[0]) > 20
    parse_profile(text)


def test_the_examples_are_what_their_names_say(secrets: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(compiled("psk", secrets, monkeypatch).ike.auth, PskAuth)
    assert isinstance(compiled("certificate", secrets, monkeypatch).ike.auth, CertificateAuth)
    assert isinstance(compiled("eap-mschapv2", secrets, monkeypatch).ike.auth, EapAuth)
    split = compiled("split-tunnel", secrets, monkeypatch)
    assert isinstance(split.network.routes, tuple)
    assert len(split.ike.child.remote_selectors) == len(split.network.routes)
    assert isinstance(compiled("eap-only", secrets, monkeypatch).ike.gateway.auth, EapOnly)
    two = compiled("two-factors", secrets, monkeypatch).ike.second_auth
    assert two is not None
    assert isinstance(two.auth, EapAuth)
    ppk = compiled("post-quantum", secrets, monkeypatch).ike.ppk
    assert ppk is not None
    assert (ppk.secret, ppk.required) == (bytes(range(32)), True)
    assert compiled("kill-switch", secrets, monkeypatch).session.kill_switch
    full = compiled("full-tunnel", secrets, monkeypatch)
    assert (full.network.routes, full.network.exclude_lan, full.session.retry) == ("all", True, None)
