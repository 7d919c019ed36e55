"""The cache of revocation data: who may use it, and how much it holds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ikeclient.tunnel import revocation_cache
from ikeclient.tunnel.revocation_cache import RevocationCache, cache_directory


@pytest.fixture
def cache(tmp_path: Path) -> RevocationCache:
    made = RevocationCache(tmp_path / "revocation")
    made.prepare()
    return made


def test_content_comes_back_until_it_is_removed(cache: RevocationCache, tmp_path: Path) -> None:
    cache.put("key", b"content")
    assert (tmp_path / "revocation").stat().st_mode & 0o777 == 0o700
    assert cache.get("key", 100) == b"content"
    assert cache.get("key", 3) is None
    assert cache.get("other", 100) is None
    cache.remove("key")
    assert cache.get("key", 100) is None


def test_a_directory_of_others_is_not_used(cache: RevocationCache, tmp_path: Path) -> None:
    cache.put("key", b"content")
    (tmp_path / "revocation").chmod(0o755)
    assert cache.get("key", 100) is None
    cache.put("other", b"content")
    (tmp_path / "revocation").chmod(0o700)
    assert cache.get("other", 100) is None
    (tmp_path / "link").symlink_to(tmp_path / "revocation")
    assert RevocationCache(tmp_path / "link").get("key", 100) is None


def test_neither_links_nor_pipes_are_followed(cache: RevocationCache, tmp_path: Path) -> None:
    cache.put("key", b"content")
    (file,) = (tmp_path / "revocation").iterdir()
    file.unlink()
    (tmp_path / "secret").write_bytes(b"secret")
    file.symlink_to(tmp_path / "secret")
    assert cache.get("key", 100) is None
    file.unlink()
    os.mkfifo(file)
    assert cache.get("key", 100) is None


def test_the_oldest_files_make_room(cache: RevocationCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation_cache, "MAX_FILES", 4)
    for number in range(6):
        cache.put(f"key {number}", b"x")
        for age, file in enumerate(sorted((tmp_path / "revocation").iterdir(), key=lambda each: -each.stat().st_mtime)):
            os.utime(file, (10**9 - age, 10**9 - age))
    assert len(list((tmp_path / "revocation").iterdir())) <= 4
    assert cache.get("key 5", 10) == b"x"
    monkeypatch.setattr(revocation_cache, "MAX_BYTES", 10)
    cache.put("large", bytes(9))
    assert cache.get("large", 10) == bytes(9)
    assert len(list((tmp_path / "revocation").iterdir())) <= 2
    cache.put("too large", bytes(11))
    assert cache.get("too large", 100) is None


def test_without_a_directory_nothing_is_kept(tmp_path: Path) -> None:
    for cache in (RevocationCache(None), RevocationCache(tmp_path / "missing")):
        cache.put("key", b"content")
        assert cache.get("key", 100) is None
        cache.remove("key")
        assert cache.usage() is None


def test_what_is_kept_can_be_counted(cache: RevocationCache) -> None:
    assert cache.usage() == (0, 0)
    for number in range(3):
        cache.put(f"key {number}", bytes(number))
    assert cache.usage() == (3, 3)


@pytest.mark.parametrize(
    ("environment", "uid", "expected"),
    [
        ({"CACHE_DIRECTORY": "/var/cache/x:/y"}, 0, "/var/cache/x/revocation"),
        ({"HOME": "/root"}, 0, "/var/cache/ikeclient/revocation"),
        ({"HOME": "/home/a"}, 1000, "/home/a/.cache/ikeclient/revocation"),
        ({"HOME": "/home/a", "XDG_CACHE_HOME": "/c"}, 1000, "/c/ikeclient/revocation"),
    ],
)
def test_the_place_is_that_of_the_service_the_machine_or_the_user(
    environment: dict[str, str], uid: int, expected: str
) -> None:
    assert str(cache_directory(environment, uid)) == expected
