"""The helper as a process: what it lives through, what it refuses, and that it never outlives its tunnel."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from ikeclient.control.events import HOOK_VARIABLES
from ikeclient.errors import IkeclientError, PlatformError, ProfileError
from ikeclient.ike.config import CertificateAuth
from ikeclient.net.changes.journal import SUFFIX
from ikeclient.net.changes.steps import Link
from ikeclient.process.helper import client
from ikeclient.process.helper.channel import HelperJournal, Read
from ikeclient.process.helper.client import Helper, HookRunner
from ikeclient.process.helper.messages import Remembered, WriteJournal
from ikeclient.process.helper.process import HelperProcess
from ikeclient.profile import message
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.load.author import Author
from ikeclient.profile.load.load import load_profile
from ikeclient.tunnel.hooks import environment
from ikeclient.tunnel.options import ConnectOptions
from ikeclient.tunnel.status import Status

VARIABLES = environment(Status(name="work"), "connected")
TOUCH = ["/bin/touch", "made"]
LINK = Link(interface="ike0", index=7, mtu=1400, old_mtu=1500, was_up=False)


def options(directory: Path) -> ConnectOptions:
    return ConnectOptions(name="work", timeout=30, keylog=None, runtime_directory=directory / "run")


def helper(
    options: ConnectOptions,
    commands: Mapping[str, Sequence[Sequence[str]]],
    directory: Path,
    read: Read | None = None,
    runs_as: Author | None = None,
) -> AbstractContextManager[Helper]:
    return client.helper(options, commands, directory, HelperProcess(read), runs_as)


def child_of_ours() -> int:
    [pid] = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()[-1:]
    return int(pid)


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def run(made: Helper, *requests: tuple[str, Sequence[str], dict[str, str]]) -> list[str | None]:
    async def ask() -> list[str | None]:
        try:
            return [await made.hooks.run(*request) for request in requests]
        finally:
            made.hooks.close()

    return asyncio.run(ask())


def test_a_hook_is_run_with_what_the_tunnel_tells_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F15: nothing of our environment, no descriptor of ours, and the directory of the profile."""
    monkeypatch.setenv("SECRET_OF_MINE", "S3cr3t-CANARY")
    script = "env >seen; ls -l /proc/self/fd >>seen; pwd >>seen"
    good, bad = ("/bin/sh", "-c", script), ("/bin/sh", "-c", "exit 3")
    with helper(options(tmp_path), {"up": [good, bad]}, tmp_path) as made:
        assert run(made, ("up", good, VARIABLES), ("up", bad, VARIABLES)) == [None, "ended with status 3"]
    seen = (tmp_path / "seen").read_text()
    assert "IKECLIENT_REASON=up\n" in seen
    assert str(tmp_path) in seen
    assert "CANARY" not in seen
    assert "socket:" not in seen


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes somebody else")
def test_a_hook_of_a_profile_that_is_not_roots_has_its_owners_rights(tmp_path: Path) -> None:
    """F17"""
    seen = tmp_path / "seen"
    seen.touch()
    seen.chmod(0o666)
    eve = Author(uid=54321, gid=54322, groups=(7,))
    command = ("/bin/sh", "-c", "exec >seen; id -u; id -G; grep CapEff /proc/self/status")
    tmp_path.chmod(0o755)
    with helper(options(tmp_path), {"up": [command]}, tmp_path, runs_as=eve) as made:
        assert run(made, ("up", command, VARIABLES)) == [None]
    assert seen.read_text().split()[:4] == ["54321", "54322", "7", "CapEff:"]
    assert int(seen.read_text().split()[4], 16) == 0


@pytest.mark.parametrize(
    ("reason", "command", "changes"),
    [
        ("up", ["/bin/touch", "other"], {}),
        ("up", ["/bin/sh"], {}),
        ("up", [], {}),
        ("up", [["/bin/touch", "made"]], {}),
        ("down", TOUCH, {}),
        ("other", TOUCH, {}),
        ("up", TOUCH, {"LD_PRELOAD": "/tmp/evil.so"}),
        ("up", TOUCH, {"PATH": "/tmp/evil"}),
        ("up", TOUCH, {"IKECLIENT_REASON": "down"}),
        ("up", TOUCH, {"IKECLIENT_ROUTES": "$(reboot)"}),
        ("up", TOUCH, {"IKECLIENT_ROUTES": "10.0.0.0/8\nX=1"}),
        ("up", TOUCH, {"IKECLIENT_ROUTES": None}),
    ],
)
def test_a_tunnel_that_was_taken_over_runs_nothing_but_the_profiles_commands(
    tmp_path: Path, reason: str, command: list[str], changes: dict[str, str]
) -> None:
    with helper(options(tmp_path), {"up": [("/bin/touch", "made")], "down": []}, tmp_path) as made:
        [problem] = run(made, (reason, command, {**VARIABLES, **changes}))
    assert problem is not None
    assert "refuses" in problem
    assert not (tmp_path / "made").exists()


def test_a_hook_whose_waiter_is_cancelled_makes_way_for_the_next(tmp_path: Path) -> None:
    """F15: and what it started is gone."""
    commands = {"up": [("/bin/sh", "-c", "echo $$ >pid; exec sleep 600")], "down": [("/bin/touch", "made")]}

    async def both(hooks: HookRunner) -> str | None:
        first = asyncio.create_task(hooks.run("up", commands["up"][0], VARIABLES))
        await asyncio.to_thread(until, lambda: bool((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()))
        first.cancel()
        await asyncio.wait({first})
        try:
            return await hooks.run("down", commands["down"][0], environment(Status(name="work"), "disconnected"))
        finally:
            hooks.close()

    with helper(options(tmp_path), commands, tmp_path) as made:
        assert asyncio.run(both(made.hooks)) is None
    assert (tmp_path / "made").exists()
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


CHALLENGE = "aka " + " ".join(("00" * 16, "11" * 16))


def ask_card(made: Helper, *challenges: str) -> list[str]:
    """What the card says to each, or why it says nothing."""

    async def run_all() -> list[str]:
        found = []
        for challenge in challenges:
            try:
                found.append(await made.card.ask(challenge))
            except IkeclientError as error:
                found.append(": ".join(error.lines()))
        made.card.close()
        return found

    return asyncio.run(run_all())


def test_a_command_answers_for_the_card(tmp_path: Path) -> None:
    with helper(options(tmp_path), {"card": [("/bin/sh", "-c", 'read a; echo "$a"')]}, tmp_path) as made:
        assert ask_card(made, CHALLENGE, CHALLENGE) == [f"{CHALLENGE}\n"] * 2


def test_the_card_is_asked_nothing_but_challenges(tmp_path: Path) -> None:
    """F15: and no other command is run for it."""
    commands = {"card": [("/bin/touch", "made")], "up": [("/bin/touch", "made")]}
    with helper(options(tmp_path), commands, tmp_path) as made:
        for said in ask_card(made, "", "aka 00 11", f"{CHALLENGE}\nsim", "sim " + "00" * 16):
            assert "refuses" in said
    assert not (tmp_path / "made").exists()
    with helper(options(tmp_path), {"up": commands["up"]}, tmp_path) as made:
        assert "refuses" in ask_card(made, CHALLENGE)[0]
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("script", ["exit 3", "head -c 600 /dev/zero"])
def test_a_card_that_fails_is_told(tmp_path: Path, script: str) -> None:
    with helper(options(tmp_path), {"card": [("/bin/sh", "-c", script)]}, tmp_path) as made:
        assert "the command /bin/sh for the card" in ask_card(made, CHALLENGE)[0]


def test_signals_to_the_whole_group_leave_the_helper_to_its_tunnel(tmp_path: Path) -> None:
    """O4: Ctrl-C and a service manager that signals every process must not take away the one that cleans up."""
    command = ("/bin/sh", "-c", "kill -TERM $$")
    with helper(options(tmp_path), {"up": [command]}, tmp_path) as made:
        pid = child_of_ours()
        made.channel.ask(WriteJournal(steps=()))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            os.kill(pid, number)
        made.channel.remove("log")
        # what it starts does not inherit that deafness
        assert run(made, ("up", command, VARIABLES)) == ["ended with status -15"]
    assert not Path(f"/proc/{pid}").exists()


def test_a_helper_of_no_tunnel_ends_with_who_forked_it() -> None:
    """The profile could not be read."""
    process = HelperProcess()
    pid = child_of_ours()
    process.end()
    assert not Path(f"/proc/{pid}").exists()


def test_what_the_helper_is_for_is_said_once(tmp_path: Path) -> None:
    """A tunnel that was taken over names no commands, files or users of its own."""
    with helper(options(tmp_path), {}, tmp_path) as made:
        begin = client.begin(options(tmp_path), {"up": [TOUCH]}, tmp_path, None, None)
        with pytest.raises(PlatformError, match="refuses"):
            made.channel.ask(begin)  # type: ignore[arg-type]  # which is no request
        [problem] = run(made, ("up", TOUCH, VARIABLES))
    assert problem is not None
    assert "refuses" in problem


def test_the_helper_reads_again_with_what_was_learnt_after_its_fork(tmp_path: Path) -> None:
    """What was typed is not asked for again, and a variable that was erased is erased in the helper, too (F10)."""
    told = Remembered(kept={"asked for psk": b"S3cr3t"}, attended=True, erased=(b"A",))

    class Memory:
        known: Remembered | None = None

        def remembered(self) -> Remembered:
            return told

        def remember(self, remembered: Remembered) -> None:
            self.known = remembered

        def read(self) -> CompiledProfile:
            raise ProfileError(f"{self.known == told}, and {self.known!r}")

    memory = Memory()
    process = HelperProcess(memory.read, memory)
    with client.helper(options(tmp_path), {}, tmp_path, process) as made, pytest.raises(ProfileError) as caught:
        made.reread()
    assert caught.value.message.startswith("True, ")
    assert "S3cr3t" not in caught.value.message


def test_a_hook_sees_the_variables_that_the_helper_lets_it_see() -> None:
    assert VARIABLES.keys() == HOOK_VARIABLES


# Of a program of ours that stays beside a tunnel: none is any use to it, and each takes memory and time.
NOT_FOR_HELPERS = (
    "cryptography",
    "pydantic",
    "pyroute2",
    "OpenSSL",
    "email",
    "http",
    "ikeclient.crypto",
    "ikeclient.ike",
)
NOT_FOR_HELPERS += ("ikeclient.eap", "ikeclient.esp", "ikeclient.dataplane", "ikeclient.tunnel", "ikeclient.signer")
NOT_FOR_HELPERS += ("asyncio", "concurrent", "ssl", "_hashlib")
# Before it is asked for what needs them.
NOT_FOR_HELPERS += (
    "ikeclient.process.helper.serve",
    "ikeclient.process.helper.block_keeper",
    "ikeclient.net.block.store",
)
NOT_FOR_HELPERS += ("ikeclient.net.machine", "ikeclient.net.watch")


def test_a_helper_holds_nothing_of_what_a_tunnel_consists_of() -> None:
    program = (
        "import sys, ikeclient.process.helper.process, ikeclient.process.profile_source\n"
        f"print([name for name in sys.modules for no in {NOT_FOR_HELPERS} if (name + '.').startswith(no + '.')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"


def test_the_journal_names_the_tunnel_and_not_its_helper(tmp_path: Path) -> None:
    """O3: the next start asks whether the tunnel lives."""
    with helper(options(tmp_path), {}, tmp_path) as made:
        HelperJournal(made.channel).write([LINK])
        assert f'"pid": {os.getpid()},' in (tmp_path / "run" / ("work" + SUFFIX)).read_text()


def test_a_helper_ends_with_a_tunnel_that_was_killed(tmp_path: Path) -> None:
    """O3: nothing of the tunnel is left in the process table."""
    program = (
        "import sys, time; from pathlib import Path\n"
        "from ikeclient.process.helper.client import helper; from ikeclient.tunnel.options import ConnectOptions\n"
        "from ikeclient.process.helper.process import HelperProcess\n"
        "from ikeclient.process.helper.messages import WriteJournal\n"
        "place = Path(sys.argv[1])\n"
        "options = ConnectOptions(name='work', timeout=1, keylog=None, runtime_directory=place / 'run')\n"
        "with helper(options, {}, place, HelperProcess()) as made:\n"
        "    made.channel.ask(WriteJournal(steps=())); print('up', flush=True); time.sleep(600)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as tunnel:
        assert tunnel.stdout is not None
        assert tunnel.stdout.readline() == "up\n"
        [pid] = Path(f"/proc/{tunnel.pid}/task/{tunnel.pid}/children").read_text().split()
        tunnel.kill()
        assert tunnel.stdout.read() == "", "the helper holds no file of the tunnel's"
    until(lambda: not Path(f"/proc/{pid}/exe").exists())


PROFILE = """version = 1
[gateway]
address = "203.0.113.7"
ca = ["certificate.pem"]
[auth]
method = "certificate"
certificate = "certificate.pem"
key = "key.pem"
[session]
up = [["/bin/touch", "first"]]
"""


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A profile with a key that this user alone may read."""
    (tmp_path / "key.pem").touch(mode=0o600)
    request = ("req", "-x509", "-newkey", "ed25519", "-nodes", "-days", "9", "-subj", "/CN=alice")
    files = ("-keyout", str(tmp_path / "key.pem"), "-out", str(tmp_path / "certificate.pem"))
    subprocess.run(["openssl", *request, *files], check=True, capture_output=True, timeout=30)
    (tmp_path / "work.toml").write_text(PROFILE)
    return tmp_path / "work.toml"


def compiled(path: Path) -> CompiledProfile:
    loaded = load_profile(str(path), [])
    return compile_profile(loaded.profile, loaded.base_dir, None, name=loaded.name)


def test_the_helper_reads_the_profile_again_with_its_keys_and_hooks(tmp_path: Path, profile: Path) -> None:
    """The tunnel may not read these files any more; the hooks of the profile that was read may run."""
    first = compiled(profile)
    with helper(options(tmp_path), first.session.commands, tmp_path, lambda: compiled(profile)) as made:
        profile.write_text(PROFILE.replace("first", "second").replace("203.0.113.7", "203.0.113.8"))
        again = made.reread()
        assert again.gateways == ("203.0.113.8",)
        before, after = first.ike.auth, again.ike.auth
        assert isinstance(before, CertificateAuth)
        assert isinstance(after, CertificateAuth)
        assert (after.chain, again.ike.gateway.auth) == (before.chain, first.ike.gateway.auth)
        assert after.key.public_key.spki == before.key.public_key.spki
        assert run(made, ("up", again.session.up[0], VARIABLES)) == [None]
        assert (tmp_path / "second").exists()
        assert not (tmp_path / "first").exists()

        profile.write_text("version = 2")
        with pytest.raises(ProfileError) as caught:
            made.reread()
        with pytest.raises(ProfileError) as expected:
            compiled(profile)
        assert caught.value.lines() == expected.value.lines()
        assert caught.value.exit_code == 9


def test_a_profile_that_needs_what_cannot_be_loaded_any_more_is_refused(
    tmp_path: Path, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tunnel with a pre-shared key gave up the right to read its own files, and now there is a certificate."""
    with helper(options(tmp_path), {}, tmp_path, lambda: compiled(profile)) as made:
        message._codec.cache_clear()
        monkeypatch.setitem(sys.modules, "ikeclient.crypto.pki.trust_store", None)
        with pytest.raises(PlatformError, match="what the profile needs cannot be loaded"):
            made.reread()


def test_a_profile_that_cannot_be_read_again_is_an_error_without_a_secret(tmp_path: Path) -> None:
    def broken() -> CompiledProfile:
        raise ValueError("S3cr3t-CANARY")

    with helper(options(tmp_path), {}, tmp_path, broken) as made, pytest.raises(ProfileError) as caught:
        made.reread()
    assert caught.value.reason == "unexpected ValueError"
    with helper(options(tmp_path), {}, tmp_path) as made:
        with pytest.raises(ProfileError, match="cannot be read again"):
            made.reread()
        os.kill(child_of_ours(), signal.SIGKILL)
        with pytest.raises(PlatformError, match="could not be read"):
            made.reread()


def test_a_caller_without_standard_files_has_a_helper_all_the_same(tmp_path: Path) -> None:
    """The sockets then have the numbers of the standard files, which the helper gives to /dev/null."""
    program = (
        "import os, sys; from pathlib import Path\n"
        "from ikeclient.process.helper.client import helper; from ikeclient.tunnel.options import ConnectOptions\n"
        "from ikeclient.process.helper.process import HelperProcess\n"
        "place = Path(sys.argv[1]); out = os.dup(1); [os.close(number) for number in (0, 1, 2)]\n"
        "options = ConnectOptions(name='work', timeout=1, keylog=None, runtime_directory=place / 'run')\n"
        "with helper(options, {}, place, HelperProcess()) as made:\n"
        "    made.channel.remove('log'); os.write(out, b'fine')\n"
        "os._exit(0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, timeout=30, check=True
    )
    assert done.stdout == b"fine"


def test_news_of_the_helper_is_not_its_end() -> None:
    ours, theirs = socket.socketpair()
    helper_ = Helper(None, None, None, None, ours)  # type: ignore[arg-type]  # what has no part in it
    assert not helper_.is_gone(), "nothing was said"
    theirs.send(b"!!")
    assert not helper_.is_gone()
    theirs.close()
    assert helper_.is_gone()
    ours.close()
