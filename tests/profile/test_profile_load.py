from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path

import pytest
from profile_world import CANARY, EAP, PSK, is_clause

from ikeclient.errors import IkeclientError, ProfileError, ProfileNotFound, UsageError
from ikeclient.profile.load import files
from ikeclient.profile.load.load import MAX_LENGTH, load_profile
from ikeclient.profile.load.lookup import SYSTEM_DIRECTORY, directories, find_profile, list_profiles, user_directory

Write = Callable[..., Path]


def failure(path: Path | str, *overrides: str) -> IkeclientError:
    started = time.monotonic()
    with pytest.raises(IkeclientError) as raised:
        load_profile(str(path), overrides)
    assert time.monotonic() - started < 20  # not a benchmark: a hang
    error = raised.value
    assert all(is_clause(line) for line in error.lines())
    assert len(error.lines()) <= 3
    return error


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's profile directory; returns it."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    directory = tmp_path / "config/ikeclient/profiles"
    directory.mkdir(parents=True)
    return directory


def test_a_name_is_found_in_the_users_directory(home: Path) -> None:
    (home / "work.toml").write_text(PSK)
    loaded = load_profile("work")
    assert (loaded.name, loaded.path, loaded.base_dir) == ("work", home / "work.toml", home)
    assert loaded.profile.gateway.address == ("192.0.2.1",)


def test_a_path_is_anything_with_a_slash_or_the_extension(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("work.toml", PSK)
    monkeypatch.chdir(path.parent)
    for reference in ("work.toml", "./work.toml", str(path)):
        assert load_profile(reference).path == path
    write("other", PSK)
    assert load_profile("./other").name == "other"


def test_the_users_directory_follows_xdg_and_falls_back_to_the_home() -> None:
    assert user_directory({"XDG_CONFIG_HOME": "/x"}) == Path("/x/ikeclient/profiles")
    assert user_directory({"XDG_CONFIG_HOME": "relative", "HOME": "/h"}) == Path("/h/.config/ikeclient/profiles")
    assert user_directory({"HOME": "/h"}) == Path("/h/.config/ikeclient/profiles")
    assert directories({"HOME": "/h"})[1] == SYSTEM_DIRECTORY == Path("/etc/ikeclient/profiles")
    assert user_directory({}).is_absolute()


def test_the_users_profile_hides_the_systems(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    system = tmp_path / "etc"
    system.mkdir()
    monkeypatch.setattr("ikeclient.profile.load.lookup.SYSTEM_DIRECTORY", system)
    for directory, name in ((home, "work"), (system, "work"), (system, "plant"), (home, "-odd"), (home, "a b")):
        (directory / f"{name}.toml").write_text(PSK)
    (home / "notes.txt").write_text("")
    assert [(entry.name, entry.path.parent) for entry in list_profiles()] == [("plant", system), ("work", home)]
    assert find_profile("plant").path.parent == system


def test_a_missing_profile_says_where_it_was_looked_for_and_what_is_near(home: Path) -> None:
    (home / "work.toml").write_text(PSK)
    error = failure("wrok")
    assert isinstance(error, ProfileNotFound)
    assert error.exit_code == 10
    assert error.lines() == [
        'there is no profile "wrok"',
        f"looked for it in {home} and /etc/ikeclient/profiles",
        'did you mean "work"?',
    ]


@pytest.mark.parametrize("name", ["", "..", "a" * 300, "-x", "x\x1b[2J", "\u00e4"])
def test_odd_names_are_not_found_without_harm(home: Path, name: str) -> None:
    assert isinstance(failure(name), ProfileNotFound)


def test_a_missing_path_is_not_found_either(write: Write) -> None:
    """F1."""
    path = write("office.toml", PSK)
    error = failure(path.with_name("ofice.toml"))
    assert isinstance(error, ProfileNotFound)
    assert str(path) in (error.hint or "")
    assert isinstance(failure(path.parent / "no/such/directory/x.toml"), ProfileNotFound)
    assert isinstance(failure(path.parent / ("a/" * 3000 + "x.toml")), ProfileNotFound)


def test_a_file_whose_name_cannot_name_a_tunnel_is_refused(write: Write) -> None:
    assert "cannot be the name of a tunnel" in failure(write("my work.toml", PSK)).message


def test_an_empty_file_is_refused(write: Write) -> None:
    """F1."""
    assert failure(write("a.toml", " \n")).message.endswith("a.toml: is empty")


def test_a_directory_a_fifo_a_device_and_a_loop_are_refused(tmp_path: Path) -> None:
    """F1: none of them blocks."""
    (tmp_path / "d.toml").mkdir()
    os.mkfifo(tmp_path / "f.toml")
    (tmp_path / "z.toml").symlink_to("/dev/zero")
    (tmp_path / "l.toml").symlink_to("l.toml")
    assert failure(tmp_path / "d.toml").message.endswith("d.toml: is a directory")
    assert failure(tmp_path / "f.toml").message.endswith("f.toml: is not a regular file")
    assert failure(tmp_path / "z.toml").message.endswith("z.toml: is not a regular file")
    assert "loop" in failure(tmp_path / "l.toml").message
    assert failure("/dev/zero").message == "/dev/zero: is not a regular file"


def test_a_device_is_not_even_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """F1: opening some devices does things."""
    monkeypatch.setattr(files.os, "open", lambda *arguments: pytest.fail("opened"))
    assert failure("/dev/zero").message == "/dev/zero: is not a regular file"


def test_a_huge_file_is_refused_without_reading_it(tmp_path: Path) -> None:
    """F1: 1 GB, sparse."""
    path = tmp_path / "huge.toml"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    assert failure(path).message.endswith("is larger than 1 MiB")


def test_an_unreadable_file_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """F1."""
    path = write("a.toml", PSK)

    def refuse(*arguments: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(files.os, "open", refuse)
    error = failure(path)
    assert error.message.endswith("a.toml: permission denied")
    assert error.exit_code == 9


def test_a_byte_order_mark_and_carriage_returns_do_no_harm(write: Write) -> None:
    """F1: as Notepad writes it."""
    path = write("a.toml", b"\xef\xbb\xbf" + PSK.replace("\n", "\r\n").encode())
    assert load_profile(str(path)).profile.auth.identity == "alice@example.com"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (PSK.encode() + b"x = '\0'\n", "a.toml:10: holds a NUL"),
        (PSK.encode() + b"x = '\xff'\n", "a.toml:10: is not UTF-8"),
        (PSK.encode("utf-16"), "a.toml:1: is not UTF-8"),
        (b"\x7fELF\x02\x01\x01\0\0", "a.toml:1: holds a NUL"),
        (b"a = 1\nb c\n", "a.toml:2: is not TOML"),
        (b"a = 1\nb = [\n", "a.toml:2: is not TOML"),
        (b"a = 1\n\n[b]\n[b]\n", "a.toml:4: key 'b' is there twice"),
        (b"[b]\na = 1\na = 2\n", "a.toml:3: key 'a' is there twice"),
        (b"[b.c]\n[b]\nc = 2\n", "a.toml:3: key 'c' is there twice"),
        (b"x = " + b"9" * 5000, "a.toml: is not TOML: a number has too many digits"),
        (b"x = " + b"[" * 10_000, "nested too deeply"),
        (b"x = " + b"{ a = " * 10_000, "nested too deeply"),
        (b"a" + b".a" * 10_000 + b" = 1", "nested too deeply"),
        (b"[" * 10_000, "a.toml:1: is not TOML"),
        (b"\x1b[2J = 1", "a.toml:1: is not TOML"),
    ],
)  # fmt: skip
def test_what_is_no_toml_is_one_line_with_its_place(write: Write, content: bytes, said: str) -> None:
    """F1: NUL, invalid UTF-8. F2: duplicated key and section, deep nesting."""
    error = failure(write("a.toml", content))
    assert said in error.message
    assert error.exit_code == 9


def test_a_megabyte_of_nonsense_ends(write: Write) -> None:
    """F2: neither tomllib nor the search for what was meant takes for ever."""
    failure(write("a.toml", "version = 1\n" + "".join(f"a{n} = 1\n" for n in range(MAX_LENGTH // 14))))
    failure(write("a.toml", "\n".join(f"a{n}{'.b' * 1000} = 1" for n in range(500))))
    failure(write("a.toml", '"' * MAX_LENGTH))


def test_a_long_list_on_one_line_is_no_nesting(write: Write) -> None:
    routes = ", ".join(f'"10.{n}.0.0/16"' for n in range(200))
    loaded = load_profile(str(write("a.toml", f"{PSK}[network]\nroutes = [{routes}]\n")))
    assert len(loaded.profile.network.routes) == 200


def test_the_line_of_a_refused_key_is_told(write: Write) -> None:
    """F2."""
    error = failure(write("a.toml", PSK.replace("address", "adress")))
    assert error.message.endswith("a.toml:4: key 'gateway.adress' is unknown")
    assert error.hint == "did you mean 'address'?"


@pytest.mark.parametrize(
    ("override", "key", "expected"),
    [
        ("network.routes=all", "routes", "all"),
        ('network.routes=["10.0.0.0/8"]', "routes", (ip_network("10.0.0.0/8"),)),
        ("network.mtu=1400", "mtu", 1400),
        ("network.dns = none", "dns", "none"),
        ("network.interface=tun5", "interface", "tun5"),
        ('network.dns="split"', "dns", "split"),
        ("network.interface=a=b", None, "must be an interface name"),
        ("network.interface=a\nmtu = 5", None, "must be an interface name"),
        ("network.mtu=true", None, "must be a whole number, not true"),
        ("network.mtu=", None, "must be a whole number"),
        ("network.rutes=all", None, "is unknown"),
        ("gateway.address.x=1", None, "'gateway.address' is not a section"),
    ],
)  # fmt: skip
def test_overrides_are_toml_values_or_else_text(write: Write, override: str, key: str | None, expected: object) -> None:
    path = write("a.toml", PSK)
    if key:
        assert getattr(load_profile(str(path), [override]).profile.network, key) == expected
    else:
        error = failure(path, override)
        assert error.message.startswith("--set: key")
        assert str(expected) in error.message


def test_an_override_can_make_a_section_and_replace_what_was_wrong(write: Write) -> None:
    path = write("a.toml", PSK + "[network]\nmtu = 5\n")
    loaded = load_profile(str(path), ["network.mtu=1400", "session.retry=3", "auth.psk={env='X'}"])
    assert (loaded.profile.network.mtu, loaded.profile.session.retry) == (1400, 3)
    assert loaded.profile.auth.psk is not None
    assert loaded.profile.auth.psk.env == "X"


@pytest.mark.parametrize("override", [CANARY, f"={CANARY}", f"a b={CANARY}", f"..={CANARY}", ""])
def test_an_override_without_a_key_is_a_usage_error(write: Write, override: str) -> None:
    error = failure(write("a.toml", PSK), override)
    assert isinstance(error, UsageError)
    assert CANARY not in str(error.lines())


@pytest.mark.parametrize("key", ["auth.psk", "auth.password", "auth.password.file"])
def test_a_password_on_the_command_line_is_refused_and_not_repeated(write: Write, key: str) -> None:
    """F10, F12."""
    error = failure(write("a.toml", EAP), f"{key}=['{CANARY}']")
    assert CANARY not in str(error.lines())
    error = failure(write("a.toml", EAP), f"auth.password={CANARY}")
    assert "must say where the secret is" in error.message
    assert CANARY not in str(error.lines())


def test_warnings_come_back_with_the_profile(write: Write) -> None:
    """F5."""
    path = write("a.toml", PSK + '[network]\nroutes = ["10.0.0.1/8"]\n')
    assert load_profile(str(path)).warnings == (f"{path}: 10.0.0.1/8 has host bits set: taken as 10.0.0.0/8",)


COMMANDS = ['[session]\nup = [["true"]]\n', '[session]\ndown = [["true"]]\n']


@pytest.mark.parametrize("commands", COMMANDS)
def test_commands_in_a_profile_that_others_can_write_are_refused(write: Write, commands: str) -> None:
    """F15."""
    error = failure(write("a.toml", PSK + commands, 0o620))
    assert "names commands to run, but others may change it (mode 0620)" in error.message
    assert (error.hint or "").startswith("chmod go-w ")
    assert load_profile(str(write("a.toml", PSK + commands, 0o644))).warnings == ()


def test_a_command_for_a_secret_counts_as_a_command(write: Write) -> None:
    """F15."""
    text = PSK.replace('{ file = "psk" }', '{ command = ["true"] }')
    assert "names commands" in failure(write("a.toml", text, 0o666)).message


def test_a_profile_that_anyone_can_write_is_warned_about(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.toml", PSK, 0o666)
    monkeypatch.setattr("os.geteuid", lambda: os.getuid() or 1000)
    monkeypatch.setattr("ikeclient.profile.load.load.trusted_owners", lambda environ: frozenset({os.getuid()}))
    assert load_profile(str(path)).warnings == (f"{path}: others may change it (mode 0666)",)


def test_a_profile_of_another_user_runs_no_commands(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """F14: the profile of user A, run by root."""
    monkeypatch.setattr("ikeclient.profile.load.load.trusted_owners", lambda environ: frozenset({54321}))
    error = failure(write("a.toml", PSK + COMMANDS[0]))
    assert f"it belongs to uid {os.geteuid()}" in error.message
    path = write("a.toml", PSK)
    assert load_profile(str(path)).warnings == (f"{path}: it belongs to uid {os.geteuid()}",)


def test_sudo_extends_the_trust_to_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """F14."""
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert files.trusted_owners({"SUDO_UID": "1000"}) == {0, 1000}
    assert files.trusted_owners({"SUDO_UID": "x"}) == {0}
    monkeypatch.setattr("os.geteuid", lambda: 1001)
    assert files.trusted_owners({"SUDO_UID": "1000"}) == {0, 1001}


def test_listing_profiles_needs_neither_pydantic_nor_cryptography(home: Path) -> None:
    import subprocess

    program = "import sys, ikeclient.profile.load.lookup as l; l.list_profiles(); import ikeclient.profile.templates\n"
    program += "sys.exit(bool({'pydantic', 'cryptography'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", program], cwd=Path(__file__).parents[2], timeout=60).returncode == 0


def test_loading_needs_no_cryptography(write: Write) -> None:
    import subprocess

    path = write("a.toml", PSK)
    program = "import sys; from ikeclient.profile.load.load import load_profile; load_profile(sys.argv[1])\n"
    program += "sys.exit('cryptography' in sys.modules)"
    command = [sys.executable, "-c", program, str(path)]
    assert subprocess.run(command, cwd=Path(__file__).parents[2], timeout=60).returncode == 0


def test_problems_reach_people_as_a_profile_error(write: Write) -> None:
    assert isinstance(failure(write("a.toml", "x = 1")), ProfileError)
