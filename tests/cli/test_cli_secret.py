"""`secret`: what is stored where, who can read it, and that it shows up nowhere else."""

from __future__ import annotations

import json
import stat
from typing import Any

Shell = Any  # the fixture's class lives in conftest.py, which cannot be imported
CANARY = "S3cr3t-CANARY"
KEYRING = """
import json, pathlib
STORE = pathlib.Path(__file__).with_name("store.json")
def _load(): return json.loads(STORE.read_text()) if STORE.exists() else {}
def set_password(service, account, secret): STORE.write_text(json.dumps({**_load(), f"{service}/{account}": secret}))
def get_password(service, account): return _load().get(f"{service}/{account}")
def delete_password(service, account):
    known = _load()
    del known[f"{service}/{account}"]
    STORE.write_text(json.dumps(known))
"""


def test_a_secret_is_stored_and_a_profile_finds_it(shell: Shell) -> None:
    """F11, F12"""
    done = shell.run("secret", "set", "work-psk", "--password-stdin", stdin=f"{CANARY}\n")
    assert (done.returncode, done.stdout) == (0, "")
    assert '{ file = "../secrets/work-psk" }' in done.stderr
    path = shell.home / "config/ikeclient/secrets/work-psk"
    assert path.read_text() == CANARY
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    options = ("--set", 'auth.psk={file="../secrets/work-psk"}')
    assert shell.run("connect", "work", *options, mode="refused").returncode == 4  # as far as the gateway
    listed = [shell.run("secret", *arguments) for arguments in (("list",), (), ("list", "--json"))]
    assert listed[0].stdout == listed[1].stdout == "work-psk\n"
    assert json.loads(listed[2].stdout)["secrets"] == [{"name": "work-psk", "path": str(path)}]
    assert CANARY not in done.stderr + "".join(each.stdout + each.stderr for each in listed)


def test_a_secret_is_replaced_and_removed(shell: Shell) -> None:
    for text in ("one", "two"):
        assert shell.run("secret", "set", "x", "--password-stdin", stdin=text).returncode == 0
    assert (shell.home / "config/ikeclient/secrets/x").read_text() == "two"
    assert shell.run("secret", "remove", "x").returncode == 0
    gone = shell.run("secret", "remove", "x")
    assert (gone.returncode, gone.stdout) == (2, "")
    assert "no secret 'x'" in gone.stderr
    assert shell.run("secret", "list").stdout == ""


def test_no_secret_is_taken_from_a_command_line(shell: Shell) -> None:
    """F10, F13"""
    assert shell.run("secret", "set", "x", CANARY).returncode == 2
    odd = shell.run("secret", "set", f"{CANARY}/!", "--password-stdin", stdin="x")
    assert odd.returncode == 2
    assert CANARY not in odd.stderr
    nobody = shell.run("secret", "set", "x")
    assert nobody.returncode == 2
    assert "--password-stdin" in nobody.stderr
    assert shell.run("secret", "set", "x", "--password-stdin", stdin="").returncode == 2
    assert not (shell.home / "config/ikeclient/secrets").exists()


def test_the_keyring_keeps_a_secret_where_it_is_installed(shell: Shell) -> None:
    missing = shell.run("secret", "set", "vpn", "--keyring", "alice", "--password-stdin", stdin=CANARY)
    assert missing.returncode == 9
    assert "pip install keyring" in missing.stderr
    (shell.home / "keyring.py").write_text(KEYRING)
    path = f"{shell.home}:{shell.environment['PYTHONPATH']}"
    done = shell.run("secret", "set", "vpn", "--keyring", "alice", "--password-stdin", stdin=CANARY, PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    options = ("--set", 'auth.psk={keyring="vpn"}')
    assert shell.run("connect", "work", *options, mode="refused", PYTHONPATH=path).returncode == 4
    assert shell.run("secret", "remove", "vpn", "--keyring", "alice", PYTHONPATH=path).returncode == 0
    assert shell.run("secret", "remove", "vpn", "--keyring", "alice", PYTHONPATH=path).returncode == 9
