"""Fixtures of the lab. A test asks for `lab` (a direct cable) or for `make_lab` (any topology)."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from lab.gateway import Offer
from lab.network import INSIDE_DNS, Topology
from lab.person import Person
from lab.pki import Pki
from lab.world import Lab, MakeLab, clean_start, obstacles

HERE = Path(__file__).parent
_labs: list[Lab] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this directory, and skip it where no lab can be built."""
    ours = [item for item in items if HERE in item.path.parents]
    reasons = obstacles() if ours else []
    for item in ours:
        item.add_marker(pytest.mark.lab)
        if reasons:
            item.add_marker(pytest.mark.skip(reason="no lab here: " + ", ".join(reasons)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add the words of every process to the report of a failed test."""
    report = yield
    if report.failed:
        report.sections.extend((title, text) for lab in _labs for title, text in lab.story().items())
    return report


@pytest.fixture(scope="session")
def pki() -> Iterator[Pki]:
    """The certificates of this run."""
    directory = clean_start("ikl")
    yield Pki(directory)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def module_lab(pki: Pki) -> Iterator[Lab]:
    """Client and gateway on one cable, which the tests of a module share: each leaves them as they were."""
    with Lab(Topology(), pki=pki) as lab:
        _labs.append(lab)
        yield lab
    _labs.clear()


@pytest.fixture
def make_lab(pki: Pki) -> Iterator[MakeLab]:
    """Build labs that are removed after the test."""
    with ExitStack() as stack:

        def build(topology: Topology) -> Lab:
            lab = stack.enter_context(Lab(topology, pki=pki))
            _labs.append(lab)
            return lab

        yield build
        _labs.clear()


@pytest.fixture
def lab(make_lab: MakeLab) -> Lab:
    """Client and gateway on one cable."""
    return make_lab(Topology())


@pytest.fixture
def person(lab: Lab) -> Person:
    """An ordinary user whose gateway has a name server, unless a module says otherwise."""
    lab.gateway.serve(Offer(dns=(INSIDE_DNS,)))
    return Person(lab)
