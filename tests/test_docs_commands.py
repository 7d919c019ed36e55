"""The blocks of the documents: each says how it is run (`documents.py`), and those that need no gateway are run here.

Typed by a reader on a machine with a gateway they are run by `tests/lab/test_lab_documents.py`.
"""

from __future__ import annotations

import json
import re
import tomllib
from typing import Any

import pytest
import typer.main
from documents import PAGES, ROOT, Block, blocks, indented

from ikeclient.cli.app import app
from ikeclient.control.status import TunnelStatus
from ikeclient.profile.model.schema import Profile

BASE: dict[str, Any] = {
    "version": 1,
    "gateway": {"address": "vpn.example.com"},
    "auth": {"method": "eap-mschapv2", "identity": "alice@example.com"},
}
ALL = [block for page in PAGES for block in blocks(page)]
_ENGINE = re.compile(
    r"(?:docker|podman) run(?: |\n)(?:[^\n]|\n    )*?\s(?:IMAGE|ikeclient)(?: (?P<command>[^\n]*))?$", re.MULTILINE
)


@pytest.mark.parametrize("block", ALL, ids=str)
def test_every_block_says_how_it_is_run(block: Block) -> None:
    fault = block.fault()
    assert fault is None, fault


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_no_block_hides_by_being_indented(page: Any) -> None:
    assert indented(page) == []


def test_a_block_without_a_mark_is_found() -> None:
    made = {"page": "x.md", "section": "", "line": 1, "language": "sh", "text": "true\n"}
    for mark in ("", "root please", "not run:", "not run: why", "file ../$HOME"):
        assert Block(mark=mark, **made).fault() is not None, mark


def test_most_blocks_are_run() -> None:
    assert len(ALL) > 30
    assert len([block for block in ALL if block.who == "not"]) < len(ALL) / 5


@pytest.mark.parametrize("block", [block for block in ALL if block.who == "profile"], ids=str)
def test_a_part_of_a_profile_is_valid_with_the_rest_of_one(block: Block) -> None:
    written = tomllib.loads(block.text)
    whole = {**BASE, **written}
    for section in ("gateway", "auth"):
        whole[section] = {**BASE[section], **written.get(section, {})}
    Profile.model_validate(whole)


@pytest.mark.parametrize("block", [block for block in ALL if block.who == "status"], ids=str)
def test_an_answer_of_status_has_every_key_and_no_other(block: Block) -> None:
    [tunnel] = json.loads(block.text)["tunnels"]
    assert json.loads(json.dumps(TunnelStatus.from_json(tunnel).to_json())) == tunnel


def test_what_follows_an_image_is_a_command_of_ours() -> None:
    """The image's entrypoint is the program: its name must not be said again."""
    ours = getattr(typer.main.get_command(app), "commands")  # noqa: B009 - of a group, which it is
    found = []
    for page in PAGES:
        for match in _ENGINE.finditer(page.read_text().replace("\\\n", "\n")):
            said = (match["command"] or "").split()
            found.append(said)
            assert not said or said[0] in ours, f"{page.name}: {match[0]}"
    assert ["connect"] in found


def test_the_containerfile_needs_nothing_that_debians_podman_lacks() -> None:
    text = (ROOT / "docs/container/Containerfile").read_text()
    assert "HEALTHCHECK" in text
    assert "--start-interval" not in text, "podman 4.3 does not know it"


def test_the_image_is_built_from_all_that_the_package_is_made_of() -> None:
    """`.dockerignore` keeps everything out but what it names; a file that it forgets fails the build."""
    named = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    package = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    wanted = [source for sources in package["data-files"].values() for source in sources]
    assert len(wanted) > 4
    for source in (*wanted, "ikeclient/cli/app.py", "setup.py", "pyproject.toml", "LICENSE", "README.md"):
        assert any(source == each or source.startswith(f"{each}/") for each in named), source
