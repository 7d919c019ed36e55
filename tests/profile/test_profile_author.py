"""Profiles of other users, run by root: nothing of root's leaves by them, and nobody else's program is run."""

from __future__ import annotations

import functools
import os
import pwd
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from profile_world import CERTIFICATE, EAP, PSK, Owner

from ikeclient.errors import IkeclientError, ProfileError, ProfileNotFound
from ikeclient.profile.compile import compile_profile
from ikeclient.profile.compiled import CompiledProfile
from ikeclient.profile.importers.read import read_directory, read_foreign
from ikeclient.profile.load import author as author_module
from ikeclient.profile.load.author import Author, NoRights
from ikeclient.profile.load.files import FileFault, read_regular
from ikeclient.profile.load.load import load_profile
from ikeclient.profile.load.trust import changeable, places
from ikeclient.profile.secrets.sources import Sources

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can read what others cannot")

EVE, ALICE = 54321, 54322  # no table of users knows them
CANARY = "root's-own-S3cr3t-CANARY"


@pytest.fixture
def land() -> Iterator[Path]:
    """A directory of root's that everybody may look into."""
    place = Path(tempfile.mkdtemp(prefix="ikeclient-author-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


@pytest.fixture
def eves(land: Path) -> Path:
    """Eve's directory."""
    return directory(land / "eve", EVE)


def directory(path: Path, owner: int, mode: int = 0o755) -> Path:
    path.mkdir()
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


def put(path: Path, content: str | bytes, owner: int, mode: int = 0o600) -> Path:
    path.unlink(
        missing_ok=True
    )  # where fs.protected_regular is set, root opens no file of others in a sticky directory
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    os.chown(path, owner, owner)
    return path


def build(path: Path, *overrides: str, environ: dict[str, str] | None = None) -> CompiledProfile:
    loaded = load_profile(str(path), overrides, os.environ if environ is None else environ)
    return compile_profile(loaded.profile, loaded.base_dir, None, name=loaded.name, author=loaded.author)


def refusal(path: Path, *overrides: str, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(IkeclientError) as caught:
        build(path, *overrides, environ=environ)
    said = " ".join(caught.value.lines())
    assert CANARY not in said
    return said


WAYS = {
    "pre-shared key": PSK.replace('"psk" }', '"%s" }'),
    "password": EAP.replace('"pw"', '"%s"'),
    "certificate": CERTIFICATE.replace('"alice.pem"', '"%s"'),
    "key": CERTIFICATE.replace('"alice.key"', '"%s"'),
    "authority": CERTIFICATE.replace('"ca.pem"', '"%s"'),
    "passphrase": CERTIFICATE + 'key_passphrase = { file = "%s" }\n',
    "insecure password": EAP.replace('"pw"', '"%s", insecure = true'),
    "insecure key": CERTIFICATE.replace('"alice.key"', '{ file = "%s", insecure = true }'),
}


@pytest.fixture
def furnished(eves: Path, alice: Owner, authority: Owner) -> Path:
    """Eve's directory with everything that the profiles in `WAYS` need."""
    put(eves / "ca.pem", authority.pem(), EVE)
    put(eves / "alice.pem", alice.pem(), EVE)
    put(eves / "alice.key", alice.key_pem(b"locked"), EVE)
    return eves


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("by", ["path", "link", "directory", "home"])
def test_a_profile_of_another_user_cannot_name_what_that_user_cannot_read(
    land: Path, furnished: Path, monkeypatch: pytest.MonkeyPatch, way: str, by: str
) -> None:
    """F14, F17: root's file directly, by a link of Eve's, in a directory that she may not search, and below `~`."""
    secret = put(land / "secret", CANARY, 0)
    named = str(secret)
    match by:
        case "link":
            (furnished / "link").symlink_to(secret)
            named = "link"
        case "directory":
            secret = put(directory(land / "closed", 0, 0o700) / "secret", CANARY, 0, 0o644)
            named = str(secret)
        case "home":
            monkeypatch.setenv("HOME", str(land))
            named = "~/secret"
    profile = put(furnished / "work.toml", WAYS[way] % named, EVE)
    said = refusal(profile)
    assert "there is no such file" in said if by == "home" else "permission denied" in said
    assert f"uid {EVE}" in said


def test_an_own_file_of_the_profiles_owner_is_read(eves: Path) -> None:
    """F17: a secret with mode 0600 in a directory of mode 0700, which is theirs."""
    eves.chmod(0o700)
    put(eves / "psk", "eves own key", EVE)
    profile = put(eves / "work.toml", PSK, EVE)
    assert build(profile).ike.auth.psk == b"eves own key"  # type: ignore[union-attr]
    os.chown(profile, 0, 0)
    assert build(profile).ike.auth.psk == b"eves own key", "her directory makes it hers"  # type: ignore[union-attr]


@pytest.mark.parametrize("link_owner", [0, EVE])
def test_a_profile_behind_a_link_is_whose_the_places_on_the_way_are(land: Path, eves: Path, link_owner: int) -> None:
    """F14, F17: the link may be root's or Eve's, its target Eve's, or root's behind a link of Eve's."""
    secret = put(land / "secret", CANARY, 0)
    text = PSK.replace('"psk" }', f'"{secret}" }}')
    target = put(eves / "work.toml", text, EVE) if link_owner == 0 else put(land / "target.toml", text, 0)
    link = (land if link_owner == 0 else eves) / "link.toml"
    link.symlink_to(target)
    os.chown(link, link_owner, link_owner, follow_symlinks=False)
    assert "permission denied" in refusal(link)


def test_roots_profile_names_what_root_can_read(land: Path) -> None:
    secret = put(land / "secret", CANARY, 0)
    profile = put(land / "work.toml", PSK.replace('"psk" }', f'"{secret}" }}'), 0)
    assert build(profile).ike.auth.psk == CANARY.encode()  # type: ignore[union-attr]


@pytest.mark.parametrize("source", ["env", "keyring", "credential"])
def test_roots_environment_keyring_and_credentials_are_not_for_a_profile_of_another_user(
    eves: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """F17: they are root's as its files are."""
    monkeypatch.setenv("ROOTS", CANARY)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(eves))
    put(eves / "ROOTS", CANARY, 0)
    profile = put(eves / "work.toml", PSK.replace('file = "psk"', f'{source} = "ROOTS"'), EVE)
    assert f"the profile belongs to uid {EVE}" in refusal(profile)
    assert os.environ["ROOTS"] == CANARY


def test_what_root_names_itself_is_roots_choice(land: Path, eves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F17: by `--set` and by variables, with an absolute path; a relative one leads through Eve's directory."""
    monkeypatch.setenv("ROOTS", CANARY)
    secret = put(land / "secret", CANARY, 0)
    (eves / "link").symlink_to(secret)
    put(eves / "psk", "eves own key", EVE)
    profile = put(eves / "work.toml", PSK, EVE)
    for override in (f"auth.psk.file={secret}", f"auth.psk={{file='{secret}'}}", "auth.psk={env='ROOTS'}"):
        assert build(profile, override).ike.auth.psk == CANARY.encode()  # type: ignore[union-attr]
    variable = {"IKECLIENT_AUTH_PSK_FILE": str(secret)}
    assert build(profile, environ=variable).ike.auth.psk == CANARY.encode()  # type: ignore[union-attr]
    assert "permission denied" in refusal(profile, "auth.psk.file=link")
    put(profile, PSK.replace('"psk" }', f'"{secret}" }}'), EVE)
    assert "permission denied" in refusal(profile, "auth.psk.insecure=true"), "the file is still the profile's"


def test_a_profile_with_more_than_one_owner_is_refused(land: Path, eves: Path) -> None:
    profile = put(eves / "work.toml", PSK, ALICE)
    assert "more than one other user" in refusal(profile)


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_root_uses_no_profile_that_others_may_change(land: Path, mode: int) -> None:
    """F17: neither the file nor a directory on the way."""
    put(land / "psk", CANARY, 0)
    profile = put(land / "work.toml", PSK, 0, mode)
    assert f"mode {mode:04o}" in refusal(profile)
    profile.chmod(0o600)
    land.chmod(0o775 if mode == 0o620 else 0o757)
    assert f"{land} has mode" in refusal(profile)
    land.chmod(0o1777)
    assert build(profile).name == "work", "with the sticky bit only its owner can replace a file"


def test_what_cannot_be_done_with_the_owners_rights_says_so(eves: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F14: a container may have taken the right to become somebody else away from root."""

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    put(eves / "psk", "eves own key", EVE)
    profile = put(eves / "work.toml", PSK, EVE)
    monkeypatch.setattr(os, "setgroups", refuse)
    assert f"cannot take the rights of uid {EVE}: Operation not permitted" in refusal(profile)


def test_a_reader_that_never_answers_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """F14: a file system of Eve's may be one."""
    monkeypatch.setattr(author_module, "TIMEOUT", 0.2)
    reading, _ = os.pipe()

    def never() -> tuple[dict[str, object], bytes]:
        return {}, os.read(reading, 1)

    with pytest.raises(TimeoutError):
        Author(uid=EVE, gid=EVE).read(never)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text()
    assert not children, "the child is gone"


def test_a_reader_that_dies_is_no_answer() -> None:
    def die() -> tuple[dict[str, object], bytes]:
        os.kill(os.getpid(), 9)
        raise AssertionError

    with pytest.raises(NoRights, match="without a word"):
        Author(uid=EVE, gid=EVE).read(die)


def test_the_reader_has_the_authors_rights_alone_and_cannot_be_looked_into(land: Path) -> None:
    """F17: user, groups, capabilities; and our memory is not theirs to read."""
    status = land / "status"

    def look() -> tuple[dict[str, object], bytes]:
        own = os.stat(f"/proc/{os.getpid()}/mem").st_uid
        return {"mem": own}, Path("/proc/self/status").read_bytes()

    head, data = Author(uid=EVE, gid=ALICE, groups=(ALICE, 7)).read(look)
    status.write_bytes(data)
    fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
    assert fields["Uid"].split() == [str(EVE)] * 4
    assert fields["Gid"].split() == [str(ALICE)] * 4
    assert fields["Groups"].split() == ["7", str(ALICE)]
    assert int(fields["CapEff"], 16) == int(fields["CapPrm"], 16) == 0
    assert head["mem"] == 0
    assert os.geteuid() == 0


def test_large_files_come_whole_and_too_large_ones_not_at_all(eves: Path) -> None:
    author = Author(uid=EVE, gid=EVE)
    path = put(eves / "bundle", b"x" * (1 << 20), EVE)
    content = read_regular(path, 1 << 20, author)
    assert (len(content.data), content.owner, content.mode) == (1 << 20, EVE, 0o600)
    with pytest.raises(FileFault, match="larger than"):
        read_regular(path, (1 << 20) - 1, author)
    os.mkfifo(eves / "fifo")
    with pytest.raises(FileFault, match="not a regular file"):
        read_regular(eves / "fifo", 100, author)


def test_an_authors_home_is_what_the_table_of_users_says(land: Path) -> None:
    nobody = Author.of(65534)
    assert (nobody.name, nobody.home) == ("nobody", "/nonexistent")
    assert Sources(base_dir=land, ask=None, author=nobody).path("~/pw") == Path("/nonexistent/pw")


# Programs


@pytest.fixture
def sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eve called sudo: her profiles may run programs, with her rights."""
    monkeypatch.setenv("SUDO_UID", str(EVE))


@pytest.fixture
def eves_home(land: Path, eves: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Eve's profiles where a name leads to; root has none."""
    monkeypatch.setattr("ikeclient.profile.load.lookup.SYSTEM_DIRECTORY", land / "etc")
    monkeypatch.setenv("HOME", str(land / "root"))
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    entry = pwd.struct_passwd(("eve", "x", EVE, EVE, "", str(eves), "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: {EVE: entry}[uid])
    monkeypatch.setattr(os, "getgrouplist", lambda _, group: [group])
    return functools.reduce(lambda path, name: directory(path / name, EVE), (".config", "ikeclient", "profiles"), eves)


@pytest.mark.usefixtures("sudo")
def test_under_sudo_a_name_is_that_of_the_callers_profile_with_the_callers_rights(land: Path, eves_home: Path) -> None:
    """F14, F17: her own key is read, root's is not."""
    put(eves_home / "psk", "eves own key", EVE)
    put(eves_home / "work.toml", PSK, EVE)
    loaded = load_profile("work")
    said = f"{eves_home}/work.toml is used: it is of the user who called sudo, and root has none of that name"
    assert (loaded.path, loaded.warnings) == (eves_home / "work.toml", (said,))
    assert loaded.author is not None
    assert (loaded.author.uid, loaded.author.called_sudo) == (EVE, True)
    roots = put(land / "psk", CANARY, 0)
    put(eves_home / "work.toml", PSK.replace('file = "psk"', f'file = "{roots}"'), EVE)
    loaded = load_profile("work")
    with pytest.raises(ProfileError, match="permission denied") as caught:
        compile_profile(loaded.profile, loaded.base_dir, None, name=loaded.name, author=loaded.author)
    assert CANARY not in "".join(caught.value.lines())


@pytest.mark.usefixtures("sudo")
def test_under_sudo_a_name_leads_to_no_file_of_roots(land: Path, eves_home: Path) -> None:
    """F14: a link of the caller's by that name is followed with the caller's rights."""
    (eves_home / "work.toml").symlink_to(put(land / "shadow", f"{CANARY} = 1\n", 0))
    with pytest.raises(ProfileError, match="permission denied") as caught:
        load_profile("work")
    assert CANARY not in "".join(caught.value.lines())


@pytest.mark.usefixtures("sudo")
def test_what_root_has_under_a_name_is_not_replaced_by_the_caller(land: Path, eves_home: Path) -> None:
    """F17: a rule of sudo for `connect work` means root's `work`; that it hides the caller's is said."""
    put(eves_home / "work.toml", PSK, EVE)
    directory(land / "etc", 0)
    put(land / "etc/work.toml", PSK, 0)
    loaded = load_profile("work")
    assert (loaded.path, loaded.author) == (land / "etc/work.toml", None)
    assert loaded.warnings == (f"{land}/etc/work.toml is used, not {eves_home}/work.toml: to use that, say its path",)


def test_without_sudo_the_profiles_of_others_have_no_names(eves_home: Path) -> None:
    put(eves_home / "work.toml", PSK, EVE)
    with pytest.raises(ProfileNotFound):
        load_profile("work")


@pytest.mark.usefixtures("sudo")
def test_under_sudo_a_command_for_a_secret_runs_as_the_profiles_owner(eves: Path) -> None:
    """F17: and sees nothing of root's environment."""
    put(eves / "tell", '#!/bin/sh\necho "$(id -u) $(id -G) $HOME"\n', EVE, 0o755)
    profile = put(eves / "work.toml", PSK.replace('file = "psk"', 'command = ["./tell"]'), EVE)
    assert build(profile).ike.auth.psk == f"{EVE} 65534 /".encode()  # type: ignore[union-attr]


@pytest.mark.usefixtures("sudo")
def test_under_sudo_hooks_belong_to_the_profiles_owner(eves: Path) -> None:
    put(eves / "psk", "eves own key", EVE)
    put(eves / "hook", "#!/bin/sh\n", EVE, 0o755)
    compiled = build(put(eves / "work.toml", PSK + '[session]\nup = [["./hook"]]\n', EVE))
    assert compiled.session.runs_as is not None
    assert compiled.session.runs_as.uid == EVE
    os.chown(eves / "hook", ALICE, ALICE)
    assert f"belongs to another user (uid {ALICE})" in refusal(eves / "work.toml")


def test_without_sudo_a_profile_of_another_user_runs_nothing(land: Path, eves: Path) -> None:
    """F14, F15: also one of root's in Eve's directory."""
    text = PSK.replace('file = "psk"', 'command = ["true"]')
    assert f"it belongs to uid {EVE}" in refusal(put(eves / "work.toml", text, EVE))
    assert f"it belongs to uid {EVE}" in refusal(put(eves / "other.toml", text, 0))


KINDS = {
    "hook": PSK + '[session]\nup = [["%s"]]\n',
    "command": PSK.replace('file = "psk"', 'command = ["%s"]'),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "where", ["eve's directory", "loose directory", "eve's link", "below eve's", "by way of dots", "search path"]
)
def test_no_program_is_run_that_another_user_could_replace(
    land: Path, eves: Path, monkeypatch: pytest.MonkeyPatch, kind: str, where: str
) -> None:
    """F15, F17: the program is root's, but not every directory and link that leads to it."""
    put(land / "psk", CANARY, 0)
    good = put(land / "good", "#!/bin/sh\necho key-of-roots\n", 0, 0o755)
    profile = put(land / "work.toml", KINDS[kind] % good, 0)
    build(profile)
    match where:
        case "eve's directory":
            bad = put(eves / "program", good.read_bytes(), 0, 0o755)
        case "loose directory":
            bad = put(directory(land / "loose", 0, 0o777) / "program", good.read_bytes(), 0, 0o755)
        case "eve's link":
            bad = land / "link"
            bad.symlink_to(good)
            os.chown(bad, EVE, EVE, follow_symlinks=False)
        case "below eve's":
            bad = put(directory(eves / "inner", 0) / "program", good.read_bytes(), 0, 0o755)
        case "by way of dots":
            (eves / "away").symlink_to(land)
            (land / "round").symlink_to("eve/away/../" + land.name + "/good")
            bad = land / "round"
        case _:
            put(eves / "program", good.read_bytes(), 0, 0o755)
            monkeypatch.setenv("PATH", f"{eves}:{os.environ['PATH']}")
            bad = Path("program")
    put(profile, KINDS[kind] % bad, 0)
    said = refusal(profile)
    assert "belongs to another user" in said or "others may change" in said


@pytest.mark.parametrize("kind", KINDS)
def test_a_program_in_a_sticky_directory_is_as_safe_as_its_own_owner(land: Path, kind: str) -> None:
    """F15: `/tmp` itself."""
    put(land / "psk", CANARY, 0)
    shared = directory(land / "shared", 0, 0o1777)
    program = put(shared / "program", "#!/bin/sh\necho key-of-roots\n", 0, 0o755)
    profile = put(land / "work.toml", KINDS[kind] % program, 0)
    build(profile)
    os.chown(program, EVE, EVE)
    assert "belongs to another user" in refusal(profile)


def test_a_chain_of_links_is_walked_step_by_step(land: Path) -> None:
    (land / "a").mkdir()
    (land / "a/b").symlink_to("../c/./d")
    (land / "c").symlink_to(land / "e")
    (land / "e").mkdir()
    put(land / "e/d", "", 0)
    walked = [str(place.path.relative_to(land)) for place in places(land / "a/b") if land in place.path.parents]
    assert walked == ["a", "a/b", "c", "e", "e/d"]
    (land / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="symbolic links"):
        changeable(land / "loop", {0})


def test_authors_are_compared_by_who_they_are() -> None:
    one = Author.of(EVE)
    assert one == Author.of(EVE)
    assert replace(one, given=frozenset({("auth", "psk")})).gave(("auth", "psk", "file"))
    assert not replace(one, given=frozenset({("auth", "psk", "insecure")})).gave(("auth", "psk", "file"))


def test_a_profile_error_is_what_all_of_it_raises(eves: Path) -> None:
    with pytest.raises(ProfileError):
        build(put(eves / "work.toml", PSK, EVE))


IPSEC_CONF = """
conn office
  keyexchange=ikev2
  right=vpn.example.com
  rightauth=pubkey
  leftauth=eap-gtc
  eap_identity=root
  leftsourceip=%config
  auto=add
"""


@pytest.mark.parametrize(("whole_directory", "owner"), [(False, 0), (True, 0), (True, EVE)])
def test_what_an_imported_file_of_another_user_leads_to_is_read_with_that_users_eyes(
    land: Path, whole_directory: bool, owner: int
) -> None:
    """F17: in a directory that both can write to, Eve's file includes a secret of root's, for a gateway of hers."""
    shared = directory(land / "shared", owner, 0o1777)
    source = put(shared / "ipsec.conf", IPSEC_CONF, EVE)
    put(shared / "roots.secrets", f'root : EAP "{CANARY}"\n', 0)

    def imported(secrets: str, owner: int) -> str:
        put(shared / "ipsec.secrets", secrets, owner)
        data = source.read_bytes()
        draft = read_directory(shared) if whole_directory else read_foreign(data, source=source)
        return repr([item.data for item in draft.attachments])

    assert CANARY not in imported("include roots.secrets\n", EVE)
    assert CANARY not in imported(f'root : EAP "{CANARY}"\n', 0)
    assert "eves-own" in imported('root : EAP "eves-own"\n', EVE)
    os.chown(source, 0, 0)
    if owner == 0:
        assert CANARY in imported("include roots.secrets\n", 0), "root's own file leads where root wants"
