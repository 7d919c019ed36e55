"""The corpus of `scripts/fuzz` is judged as it should be, and its search finds what goes wrong.

C12, C17, E3, E10, E11, E12, F1, F2, K2, K7, K11, K12, N2, N6, O15, P10, P12, S4, S11 are about such input.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from random import Random

import pytest
from fuzz import __main__ as fuzz
from fuzz import corpus
from fuzz.damage import chained, damaged, framed, grown, packets_in, reshaped_der, reshaped_json
from fuzz.target import LARGEST, WHOLE, Target
from fuzz.targets import TARGETS
from fuzz.worker import Blackboard, Report, Search, judge

_AGAIN = 60  # damaged inputs of each target, which is not what a search is for
_GENEROUS = 5 * WHOLE


@pytest.mark.parametrize("target", TARGETS.values(), ids=lambda target: target.name)
def test_seeds_and_corpus_are_judged_as_they_should_be(target: Target) -> None:
    random = Random(target.name)
    inputs = [*target.seeds(), *corpus.read(corpus.path_of(target))]
    for data in inputs:
        judge(target, data, limit=_GENEROUS)
    for _ in range(_AGAIN):
        judge(target, target.mutate(random, random.choice(inputs)), limit=_GENEROUS)


def test_the_corpus_is_small_and_of_targets_that_exist() -> None:
    known = {corpus.path_of(target) for target in TARGETS.values()}
    for path in corpus.DIRECTORY.iterdir():
        assert path in known
        assert sum(map(len, corpus.read(path))) <= corpus.MOST_BYTES


def _strict(data: bytes) -> int:
    if data[:1] == b"\0":
        raise ValueError("documented")
    assert b"\xff\xff" not in data, "undocumented"
    return len(data) % 3


def _search(target: Target, tmp_path: Path, inputs: int = 6_000) -> Report:
    search = Search(target, target.seeds(), Blackboard(), tmp_path)
    report = search.report
    return search.run(Random(1), lambda: report.inputs >= inputs or bool(report.failures), traced=False)


def _target(check: object, **options: object) -> Target:
    return Target(name="made up", check=check, seeds=lambda: [b"abcdefgh"], errors=(ValueError,), **options)  # type: ignore[arg-type]


def test_an_undocumented_error_is_found_and_its_input_kept(tmp_path: Path) -> None:
    report = _search(_target(_strict), tmp_path)
    assert [failure.split(":")[:2] for failure in report.failures] == [["made up", " AssertionError"]]
    (path,) = tmp_path.iterdir()
    said = " ".join(path.read_text().replace("\n# ", " ").split())  # long lines are wrapped
    assert f"scripts/fuzz --replay {path}" in said
    with pytest.raises(AssertionError, match="undocumented"):
        _strict(corpus.read(path)[0])


def test_what_takes_quadratic_time_is_found(tmp_path: Path) -> None:
    def quadratic(data: bytes) -> None:
        for _ in range(0, len(data), 2):
            data.count(b"a")

    failures = _search(_target(quadratic), tmp_path).failures
    assert "more than 50 ms" in failures[0]


def test_memory_that_grows_is_found(tmp_path: Path) -> None:
    kept = []
    (failure,) = _search(_target(lambda data: kept.append(data + bytes(60_000))), tmp_path).failures
    assert "memory grew" in failure


def test_one_input_that_takes_all_memory_is_found(tmp_path: Path) -> None:
    def greedy(data: bytes) -> None:
        bytearray(1 << 33 if b"\xff" in data else 1)

    pid = os.fork()  # the limit is for good
    if not pid:
        report = _search(_target(greedy), tmp_path)
        os._exit(0 if "MemoryError" in report.failures[0] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.parametrize(
    ("harm", "expected"),
    [(lambda: os.kill(os.getpid(), signal.SIGSEGV), "ended with -11"), (lambda: _forever(), "does not end")],
)
def test_an_input_that_kills_or_stops_the_process_is_found(
    harm: object, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz, "HANG", 0.5)
    target = _target(lambda data: harm() if b"\xff" in data else None)  # type: ignore[operator]
    (report,) = fuzz.run([target], 60, seed=1, jobs=1, crashes=tmp_path)
    assert expected in report.failures[0]
    assert b"\xff" in corpus.read(next(tmp_path.iterdir()))[0]


def _forever() -> None:
    while True:
        pass


def test_a_search_goes_on_from_what_led_to_something_new(tmp_path: Path) -> None:
    """No single damage leads from the seed to all three bytes."""

    def deep(data: bytes) -> int:
        for depth, letter in enumerate(b"\x80\x7f\xfe"):
            if data[depth : depth + 1] != bytes((letter,)):
                return depth
        raise AssertionError("reached")

    assert _search(_target(deep), tmp_path, 100_000).failures


def test_the_same_seed_makes_the_same_inputs(tmp_path: Path) -> None:
    seen: list[list[bytes]] = [[], []]
    for each in seen:
        _search(_target(lambda data, each=each: each.append(data)), tmp_path, 2_000)
    assert seen[0] == seen[1]


def test_damage_keeps_the_structure_around_it() -> None:
    random = Random(5)
    message = TARGETS["message"].seeds()[0]
    whole = sum(
        int.from_bytes(each[24:28], "big") == len(each) for each in (chained(random, message) for _ in range(300))
    )
    assert whole > 200
    for mutate, data in ((reshaped_der, TARGETS["name"].seeds()[0]), (reshaped_json, b'{"a": [1, 2, {"b": null}]}')):
        assert len({mutate(random, data) for _ in range(100)}) > 50
    assert packets_in(framed([b"ab", b"", b"c"])) == [b"ab", b"", b"c"]
    assert LARGEST - 4 < len(grown(random, b"abc", LARGEST)) <= LARGEST
    assert len({damaged(random, b"abc") for _ in range(100)}) > 30
