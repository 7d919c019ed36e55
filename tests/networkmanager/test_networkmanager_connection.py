"""A connection's settings as a profile, and whose rights count."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from ikeclient.errors import ProfileError
from ikeclient.networkmanager.connection import (
    VpnConnection,
    compile_connection,
    missing_secret,
    missing_secrets,
    read_connection,
)

DATA = {
    "gateway.address": "vpn.example.com",
    "auth.method": "eap-mschapv2",
    "auth.user": "alice",
    "auth.password-flags": "1",
    "network.routes": '["10.0.0.0/8"]',
}


def settings(**vpn: object) -> dict[str, dict[str, object]]:
    return {"connection": {"id": "At work", "uuid": "1-2"}, "vpn": {"data": DATA, "secrets": {}, **vpn}}


def test_data_are_the_keys_of_a_profile() -> None:
    connection = read_connection(settings())
    profile = connection.profile
    assert connection.tunnel == "At-work"
    assert profile.gateway.address == ("vpn.example.com",)
    assert profile.auth.user == "alice"
    assert [str(route) for route in profile.network.routes] == ["10.0.0.0/8"]


def test_a_key_that_does_not_exist_is_named() -> None:
    connection = VpnConnection(name="work", data={**DATA, "gateway.adress": "x"})
    with pytest.raises(ProfileError, match=r"connection work: key 'gateway\.adress'"):
        connection.profile  # noqa: B018


@pytest.mark.parametrize(
    "key",
    [
        "auth.password.command",
        "session.up",
        "session.down",
        "session.kill_switch",
        "auth.key.module",
        "auth.password.env",
        "auth.psk.keyring",
        "second_auth.password.credential",
        "auth.sim.command",
        "auth.key.agent",
    ],
)
def test_a_connection_names_no_program_and_no_secret_of_roots(key: str) -> None:
    connection = VpnConnection(name="work", data={**DATA, key: '["/bin/true"]'})
    with pytest.raises(ProfileError, match="cannot be in a connection"):
        connection.profile  # noqa: B018


@pytest.mark.parametrize(
    "more",
    [
        {"auth.password": '{ command = ["/bin/true"] }'},
        {"auth": '{ method = "eap-mschapv2", user = "alice", password = { env = "HOME" } }'},
        {"session": '{ up = [["/bin/true"]] }'},
        {"session": "{ kill_switch = true }"},
    ],
)
def test_a_table_as_a_value_does_not_get_past_that(more: dict[str, str]) -> None:
    kept = {key: value for key, value in DATA.items() if key.partition(".")[0] not in more}
    with pytest.raises(ProfileError, match="cannot be in a connection"):
        VpnConnection(name="work", data={**kept, **more}).profile  # noqa: B018


def test_the_secret_that_is_missing_is_told_and_one_that_is_given_is_not(tmp_path: Path) -> None:
    trusted = {**DATA, "gateway.ca": '["/etc/ssl/certs/ca-certificates.crt"]'}
    if not os.path.exists("/etc/ssl/certs/ca-certificates.crt"):
        pytest.skip("needs a trust store")
    without = VpnConnection(name="work", data=trusted)
    assert missing_secret(without, without.profile, None, attended=True) == ("auth", "password")
    assert missing_secrets(without) == [("auth", "password")]
    given = VpnConnection(name="work", data=trusted, secrets={"auth.password": "pw"})
    assert missing_secret(given, given.profile, None, attended=True) is None
    assert missing_secrets(given) == []


def psk(**more: str) -> VpnConnection:
    data = {"gateway.address": "192.0.2.1", "auth.method": "psk", "auth.identity": "alice@example.org"}
    return VpnConnection(name="work", data={**data, **more}, secrets={"auth.psk": "not a short one"})


def test_a_secret_of_the_connection_takes_the_place_of_its_source() -> None:
    compiled = compile_connection(psk(), interactive=False)
    assert getattr(compiled.ike.auth, "psk", None) == b"not a short one"
    assert compiled.name == "work"


def test_only_a_secret_that_is_not_stored_is_somebodys_to_type() -> None:
    compiled = compile_connection(psk(), interactive=True)
    assert [(secret.section, secret.key) for secret in compiled.typed] == [("auth", "psk")]
    assert psk().stored == {"auth.psk"}
    assert psk(**{"auth.psk-flags": "2"}).stored == frozenset()


def test_secrets_are_in_no_representation() -> None:
    assert "not a short one" not in repr(psk())


def test_permissions_name_users_and_nothing_else() -> None:
    found = settings()
    found["connection"]["permissions"] = ["user:alice:", "user:bob"]
    assert read_connection(found).users == ("alice", "bob")
    found["connection"]["permissions"] = ["group:wheel:"]
    with pytest.raises(ProfileError, match="names no user"):
        read_connection(found)


def test_a_user_who_is_not_known_has_no_connection() -> None:
    connection = VpnConnection(name="work", data=DATA, users=("no-such-user-here",))
    with pytest.raises(ProfileError, match="not known here"):
        connection.authors  # noqa: B018


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to be somebody else")
def test_every_user_of_a_connection_must_be_allowed_to_read_its_files(tmp_path: Path) -> None:
    """A connection of two users gives neither what the other cannot read (F14, CVE-2025-9615)."""
    nobody, daemon = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
    place = tmp_path / "open"
    place.mkdir()
    for above in (*reversed(tmp_path.parents), tmp_path, place):
        if above != Path("/") and str(above).startswith("/tmp/"):
            above.chmod(0o755)
    secret = place / "psk"
    secret.write_text("only for user nobody")
    secret.chmod(0o600)
    os.chown(secret, nobody.pw_uid, nobody.pw_gid)
    data = {**psk().data, "auth.psk.file": str(secret)}
    own = VpnConnection(name="work", data=data, users=("nobody",))
    assert getattr(compile_connection(own, interactive=False).ike.auth, "psk", None) == b"only for user nobody"
    for users in (("daemon",), ("nobody", "daemon"), ("daemon", "nobody")):
        with pytest.raises(ProfileError, match=r"Permission denied|permission"):
            compile_connection(VpnConnection(name="work", data=data, users=users), interactive=False)
    assert daemon.pw_uid != nobody.pw_uid
