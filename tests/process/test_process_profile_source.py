"""A profile that is read by a process of its own is the one that is read here, and nothing stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ikeclient.errors import IkeclientError
from ikeclient.ike.config import PskAuth
from ikeclient.process.profile_source import ProfileSource
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.message import encode

PROFILE = """
version = 1
[gateway]
address = "vpn.example.com"
[auth]
method = "psk"
identity = "alice"
psk = { %s }
"""
PSK = "correct horse battery staple"


def written(directory: Path, psk: str) -> str:
    path = directory / "work.toml"
    path.write_text(PROFILE % psk)
    path.chmod(0o600)
    return str(path)


def nothing() -> None:
    """Load nothing."""


def test_it_is_the_same_profile_and_its_secrets_are_remembered(tmp_path: Path) -> None:
    """What was typed is there for the next time, such as after SIGHUP."""
    source = ProfileSource(written(tmp_path, "prompt = true"), [])
    asked = []
    order = []

    def read() -> CompiledProfile:
        asked.append("in the other process")
        return source.read(lambda _: PSK, attended=True)

    apart = source.read_apart(lambda: order.append("loaded"), read)
    assert order == ["loaded"]
    assert asked == []
    assert apart == source.read(None)
    assert isinstance(apart.ike.auth, PskAuth)
    assert apart.ike.auth.psk == PSK.encode()
    assert source.typed
    assert not ProfileSource(None, []).typed


def test_a_variable_with_a_secret_is_erased_here_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F10"""
    monkeypatch.setenv("IKE_TEST_PSK", PSK)
    source = ProfileSource(written(tmp_path, 'env = "IKE_TEST_PSK"'), [])
    source.read_apart(nothing, source.read)
    assert "IKE_TEST_PSK" not in os.environ
    source.read()  # from memory


def test_its_error_is_told_with_its_exit_code(tmp_path: Path) -> None:
    source = ProfileSource(written(tmp_path, "prompt = true"), [])
    with pytest.raises(IkeclientError, match="no pre-shared key given") as apart:
        source.read_apart(nothing, source.read)
    with pytest.raises(IkeclientError) as here:
        source.read()
    assert apart.value.lines() == here.value.lines()
    assert apart.value.exit_code == here.value.exit_code == 2


def test_a_bug_in_the_other_process_is_met_here(tmp_path: Path) -> None:
    source = ProfileSource(written(tmp_path, "prompt = true"), [])

    def read() -> CompiledProfile:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        source.read_apart(nothing, read)


def test_nobody_is_left_after_ctrl_c(tmp_path: Path) -> None:
    source = ProfileSource(written(tmp_path, "prompt = true"), [])

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        source.read_apart(interrupted, lambda: source.read(lambda _: PSK))
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


NOT_FOR_TUNNELS = ("pydantic", "pydantic_core", "tomllib")  # what reads profiles
NOT_FOR_TUNNELS += ("pyroute2.iproute", "pyroute2.netlink.nlsocket", "multiprocessing", "unittest")
# But where the profile wants them: for EAP, for certificates, and for keys on tokens.
NOT_FOR_TUNNELS += ("ikeclient.eap.peer", "OpenSSL", "http.client", "ssl", "email")
NOT_FOR_TUNNELS += ("cryptography.x509", "cryptography.hazmat.primitives.serialization")
NOT_FOR_TUNNELS += ("ikeclient.crypto.pki.certificate", "ikeclient.crypto.sign.signature")
NOT_FOR_TUNNELS += ("ikeclient.ike.v2.rules.certificates", "ikeclient.tunnel.revocation")
NOT_FOR_TUNNELS += ("ikeclient.tunnel.fetch", "ikeclient.net.transport.http", "random")
NOT_FOR_TUNNELS += ("ikeclient.signer.client", "ikeclient.signer.messages", "ikeclient.signer.keeper")


def test_what_no_tunnel_needs_is_not_loaded_with_it(tmp_path: Path) -> None:
    """It would stay in memory for as long as the tunnel runs."""
    (tmp_path / "psk").touch(mode=0o600)
    (tmp_path / "psk").write_text(PSK)
    profile = ProfileSource(written(tmp_path, 'file = "psk"'), []).read()
    program = (
        "import json, sys, ikeclient.process.profile_source, ikeclient.process.detach\n"
        "from ikeclient.cli.connect import _load\n"
        "_load()\n"
        "from ikeclient.profile.message import decode\n"
        "from ikeclient.tunnel.late_modules import load_for\n"
        "load_for(decode(json.load(sys.stdin)))\n"
        f"print([name for name in sys.modules for no in {NOT_FOR_TUNNELS} if (name + '.').startswith(no + '.')])\n"
    )
    shown = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(encode(profile)),
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert shown.stdout.strip() == "[]"
