from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path

import pytest
from profile_world import CANARY, is_clause

from ikeclient.errors import IkeclientError, ProfileError, UsageError
from ikeclient.profile.model.schema import SecretSource
from ikeclient.profile.secrets import secrets
from ikeclient.profile.secrets.command import run_for_secret
from ikeclient.profile.secrets.secrets import Secret, Wanted, erase_variable, resolve

Write = Callable[..., Path]


def wanted(directory: Path, ask: Callable[[str], str] | None = None) -> Wanted:
    return Wanted(name="password", account="alice", base_dir=directory, ask=ask)


def source(**keys: object) -> SecretSource:
    return SecretSource.model_validate(keys)


def failure(given: SecretSource | None, directory: Path, ask: Callable[[str], str] | None = None) -> IkeclientError:
    with pytest.raises(IkeclientError) as raised:
        resolve(given, wanted(directory, ask))
    assert CANARY not in "".join(raised.value.lines())
    assert len(raised.value.lines()) <= 3
    assert all(is_clause(line) for line in raised.value.lines())
    return raised.value


def test_a_secret_shows_itself_to_nobody() -> None:
    """F12."""
    secret = Secret(CANARY.encode())
    assert CANARY not in f"{secret} {secret!r} {secret!s} {secret:>50} {[secret]} {vars(type(secret))}"
    for attempt in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            attempt(secret)
    with pytest.raises(TypeError):
        hash(secret)
    assert not hasattr(secret, "__dict__")
    assert secret.reveal() == CANARY.encode()
    assert secret == Secret(CANARY.encode())
    assert secret != Secret(b"other")
    assert secret != CANARY.encode()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"secret", b"secret"), (b"secret\n", b"secret"), (b"secret\r\n", b"secret"), (b"secret\n\n", b"secret\n"),
        (b" se cret ", b" se cret "), (b"secret\r", b"secret\r"), (b"\xff\n", b"\xff"),
    ],
)  # fmt: skip
def test_one_newline_at_the_end_of_a_file_is_cut(write: Write, content: bytes, expected: bytes) -> None:
    """F8."""
    path = write("pw", content)
    assert resolve(source(file="pw"), wanted(path.parent)).reveal() == expected


def test_a_path_may_be_relative_absolute_or_start_at_home(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("pw", CANARY)
    monkeypatch.setenv("HOME", str(path.parent))
    for written, base in (("pw", path.parent), (str(path), Path("/")), ("~/pw", Path("/"))):
        assert resolve(source(file=written), wanted(base)).reveal() == CANARY.encode()


def test_a_link_to_a_secret_file_is_followed(write: Write) -> None:
    path = write("pw", CANARY)
    (path.parent / "link").symlink_to(path)
    assert resolve(source(file="link"), wanted(path.parent)).reveal() == CANARY.encode()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o601, 0o777])
def test_a_secret_file_that_others_can_reach_is_refused(
    write: Write, mode: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F11, with the override."""
    path = write("pw", CANARY, mode)
    if os.geteuid() == 0:
        os.chown(path, 1000, 1000)
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    error = failure(source(file="pw"), path.parent)
    assert f"others may read or change it (mode {mode:04o})" in error.message
    assert error.hint == f"chmod 600 {path}"
    assert resolve(source(file="pw", insecure=True), wanted(path.parent)).reveal() == CANARY.encode()


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_secret_file_of_its_owner_alone_is_read(write: Write, mode: int) -> None:
    path = write("pw", CANARY, mode)
    assert resolve(source(file="pw"), wanted(path.parent)).reveal() == CANARY.encode()


def test_a_secret_file_of_another_user_is_refused(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """F11, F14."""
    path = write("pw", CANARY)
    monkeypatch.setattr("ikeclient.profile.load.private_files.trusted_owners", lambda environ: frozenset({54321}))
    assert "belongs to another user" in failure(source(file="pw"), path.parent).message
    assert resolve(source(file="pw", insecure=True), wanted(path.parent)).reveal() == CANARY.encode()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_root_does_not_read_the_secret_of_somebody_else_for_a_profile(write: Write) -> None:
    """F14: root, a profile of user A that points to the key of user B."""
    path = write("pw", CANARY)
    os.chown(path, 54321, 54321)
    assert "belongs to another user (uid 54321)" in failure(source(file="pw"), path.parent).message


def test_only_regular_files_of_reasonable_size_hold_secrets(tmp_path: Path, write: Write) -> None:
    """F1 for the files a profile names."""
    os.mkfifo(tmp_path / "fifo", 0o600)
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "directory").mkdir(mode=0o700)
    write("large", b"x" * (secrets.MAX_LENGTH + 1))
    for name, reason in {
        "fifo": "is not a regular file",
        "zero": "is not a regular file",
        "directory": "is a directory",
        "large": "is larger than 64 KiB",
        "missing": "there is no such file",
        "x" * 300: "the name is too long",
    }.items():
        assert failure(source(file=name), tmp_path).message == f"{tmp_path / name}: {reason}"


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_an_empty_secret_is_none(write: Write, content: bytes) -> None:
    path = write("pw", content)
    assert failure(source(file="pw"), path.parent).message == "the password is empty"


def test_a_variable_is_read_once_and_erased(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F10."""
    monkeypatch.setenv("VPN_PW", CANARY)
    assert resolve(source(env="VPN_PW"), wanted(tmp_path)).reveal() == CANARY.encode()
    assert "VPN_PW" not in os.environ
    assert subprocess.run(["env"], capture_output=True, text=True).stdout.count(CANARY) == 0
    assert failure(source(env="VPN_PW"), tmp_path).lines() == [
        "the password cannot be read",
        "the environment variable VPN_PW is not set",
    ]
    assert failure(source(env="A=B"), tmp_path).exit_code == 9


def test_what_the_kernel_shows_of_the_environment_is_erased_too() -> None:
    """F10: never in /proc/*/environ after the start."""
    program = (
        "import sys\n"
        "from pathlib import Path\n"
        "from ikeclient.profile.secrets.secrets import erase_variable\n"
        "before = Path('/proc/self/environ').read_bytes()\n"
        "value = erase_variable('VPN_PW')\n"
        "after = Path('/proc/self/environ').read_bytes()\n"
        "sys.stdout.write(f'{value in before} {value in after} {len(value)} {b\"OTHER=1\" in after}')\n"
    )
    environment = {**os.environ, "VPN_PW": CANARY, "OTHER": "1"}
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60
    )
    assert done.stdout == f"True False {len(CANARY)} True", done.stderr


def test_a_variable_that_is_not_set_is_none() -> None:
    assert erase_variable("IKECLIENT_TEST_NOT_SET") is None


def test_a_command_prints_the_secret(tmp_path: Path) -> None:
    given = source(command=["sh", "-c", f"echo {CANARY}; pwd >&2"])
    assert resolve(given, wanted(tmp_path)).reveal() == CANARY.encode()


def test_what_a_command_says_on_standard_error_is_not_shown(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """F12: it may repeat the secret."""
    run_for_secret(["sh", "-c", f"echo {CANARY} >&2"], tmp_path, 100, "password")
    assert capfd.readouterr() == ("", "")


def test_a_command_gets_no_shell_no_input_and_little_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F15 in spirit: nothing of ours leaks into it, nothing it is given is interpreted."""
    monkeypatch.setenv("IKECLIENT_OTHER_SECRET", CANARY)
    monkeypatch.setenv("HOME", "/home/x")
    output = run_for_secret(["env"], tmp_path, 1 << 16, "password").decode()
    assert CANARY not in output
    assert "HOME=/home/x" in output
    assert run_for_secret(["echo", "$HOME;id"], tmp_path, 100, "password") == b"$HOME;id\n"
    assert run_for_secret(["cat"], tmp_path, 100, "password") == b""
    assert run_for_secret(["pwd"], tmp_path, 4096, "password").decode().strip() == str(tmp_path)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["sh", "-c", f"echo {CANARY} >&2; exit 3"], "the command sh for the password ended with exit code 3"),
        (["sh", "-c", "kill -9 $$"], "ended by signal 9"),
        (["no-such-program", CANARY], "is no-such-program, which is not in the search path"),
        (["/", CANARY], "is not a program"),
        (["sh", "-c", "while :; do echo xxxxxxxxxxxxxxxxxxxx; done"], "printed more than 65536 bytes"),
    ],
)
def test_a_failing_command_is_reported_without_its_words(tmp_path: Path, command: list[str], said: str) -> None:
    """F12, F15: exits with an error, missing, not executable, prints without end."""
    assert said in failure(source(command=command), tmp_path).message


@pytest.mark.parametrize("script", ["sleep 9", "exec >&-; sleep 9", "sleep 9 & echo x"])
def test_a_hanging_command_is_given_up(tmp_path: Path, script: str) -> None:
    """F15: also where it closes its output, or leaves it to a child."""
    started = time.monotonic()
    with pytest.raises(ProfileError, match="did not end"):
        run_for_secret(["sh", "-c", script], tmp_path, 100, "password", timeout=0.3)
    assert time.monotonic() - started < 8


def test_the_keyring_is_asked_for_the_account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def get_password(service: str, account: str) -> str | None:
        asked.append((service, account))
        return CANARY if service == "vpn" else None

    monkeypatch.setitem(sys.modules, "keyring", types.SimpleNamespace(get_password=get_password))
    assert resolve(source(keyring="vpn"), wanted(tmp_path)).reveal() == CANARY.encode()
    assert asked == [("vpn", "alice")]
    assert failure(source(keyring="x"), tmp_path).message == "the keyring holds no password for x, account alice"


def test_a_failing_or_missing_keyring_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def get_password(service: str, account: str) -> str:
        raise RuntimeError(CANARY)

    monkeypatch.setitem(sys.modules, "keyring", types.SimpleNamespace(get_password=get_password))
    assert failure(source(keyring="vpn"), tmp_path).reason == "RuntimeError"
    monkeypatch.setitem(sys.modules, "keyring", None)
    assert "pip install keyring" in (failure(source(keyring="vpn"), tmp_path).hint or "")


def test_systemd_credentials_are_read_from_their_directory(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("vpn-pw", f"{CANARY}\n", 0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(path.parent))
    assert resolve(source(credential="vpn-pw"), wanted(Path("/"))).reveal() == CANARY.encode()
    assert "there is no such file" in failure(source(credential="other"), path.parent).message
    for odd in ("../vpn-pw", "..", "/etc/passwd", "a/b"):
        assert "wants the name" in (failure(source(credential=odd), path.parent).reason or "")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    assert "LoadCredential" in (failure(source(credential="vpn-pw"), path.parent).hint or "")


def test_a_prompt_names_what_it_wants_and_for_whom(tmp_path: Path) -> None:
    prompts = []

    def ask(prompt: str) -> str:
        prompts.append(prompt)
        return CANARY

    assert resolve(source(prompt=True), wanted(tmp_path, ask)).reveal() == CANARY.encode()
    assert resolve(None, wanted(tmp_path, ask)).reveal() == CANARY.encode()
    assert prompts == ["Password for alice: "] * 2


def test_without_a_terminal_a_prompt_fails_at_once(tmp_path: Path) -> None:
    """F13."""

    def closed(prompt: str) -> str:
        raise EOFError

    for ask in (None, closed):
        error = failure(source(prompt=True), tmp_path, ask)
        assert isinstance(error, UsageError)
        assert error.exit_code == 2
        assert error.message == "no password given"


def test_a_secret_of_root_may_be_for_a_group_of_an_ordinary_user(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """F11: as PostgreSQL has it, 0600 if it is ours and 0640 if it is root's; the hint is the line to paste."""
    if os.geteuid() != 0:
        pytest.skip("only root has files of root")
    path = write("pw", CANARY, 0o640)
    assert resolve(source(file="pw"), wanted(path.parent)).reveal() == CANARY.encode(), "root reads its own as well"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert resolve(source(file="pw"), wanted(path.parent)).reveal() == CANARY.encode()
    for mode in (0o644, 0o660, 0o650):
        path.chmod(mode)
        assert failure(source(file="pw"), path.parent).hint == f"chmod 640 {path}"
    os.chown(path, 1000, 0)
    path.chmod(0o640)
    assert failure(source(file="pw"), path.parent).hint == f"chmod 600 {path}"
