"""The methods are listed once: whatever else names some of them agrees with the table."""

from __future__ import annotations

import importlib
import pkgutil
import re
from pathlib import Path
from typing import get_args

from typer.main import get_command

from ikeclient.cli.app import app
from ikeclient.eap.method import NAMES
from ikeclient.eap.peer import SUPPORTED_METHODS
from ikeclient.profile import exporters, importers, templates
from ikeclient.profile.model.methods import METHODS, REFUSED, SUPPORTED, MethodName, is_eap, uses_certificate
from ikeclient.profile.model.schema import Auth
from ikeclient.wire.registry import EapType

ROOT = Path(__file__).resolve().parents[2]


def foreign_tables() -> dict[str, dict[str, str]]:
    """The tables by which other clients' words become methods, and methods become other clients' words."""
    found = {}
    for package in (importers, exporters):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            for name, value in vars(importlib.import_module(module.name)).items():
                named = name.strip("_") in {"METHODS", "TYPES", "EAP", "EAP_TYPES"}
                if named and type(value) is dict and value is not METHODS:
                    found[f"{module.name}.{name}"] = value
    return found


def test_the_table_has_every_name_in_its_order() -> None:
    assert tuple(METHODS) == get_args(MethodName)
    assert sorted(SUPPORTED + REFUSED) == sorted(METHODS)


def test_the_keys_are_keys_of_the_section() -> None:
    for traits in METHODS.values():
        assert traits.keys <= Auth.model_fields.keys()
    used = {key for traits in METHODS.values() for key in traits.keys} | {"method", "identity"}
    assert used == Auth.model_fields.keys()


def test_the_methods_that_can_be_run_are_those_that_eap_knows() -> None:
    for name, traits in METHODS.items():
        assert traits.supported == ({*traits.answers} <= SUPPORTED_METHODS)
        if is_eap(name) and name != "eap":
            assert [NAMES[answer] for answer in traits.answers] == [name]
    answered = {answer for traits in METHODS.values() for answer in traits.answers}
    assert answered == NAMES.keys() - {EapType.EXPANDED}


def test_what_is_no_method_is_nothing() -> None:
    assert not is_eap("")
    assert not is_eap("eap-of-tomorrow")
    assert not uses_certificate("")
    assert [name for name in METHODS if uses_certificate(name)] == ["certificate", "eap-tls"]
    assert [name for name in METHODS if not is_eap(name)] == ["psk", "certificate"]


def test_the_tables_of_other_clients_speak_of_methods_that_there_are() -> None:
    tables = foreign_tables()
    assert len(tables) >= 6
    for name, table in tables.items():
        words = table.values() if ".importers." in name else table.keys()
        assert {*words} <= METHODS.keys(), name


def test_a_template_is_for_a_method_that_can_be_run() -> None:
    assert set(templates.METHODS) <= set(SUPPORTED)


def test_the_help_of_profile_new_names_the_templates() -> None:
    command = get_command(app).commands["profile"].commands["new"]  # type: ignore[attr-defined]
    [option] = (each for each in command.params if each.name == "method")
    assert set(re.findall(r"[a-z0-9-]+", option.help)) - {"or"} == set(templates.METHODS)


def test_the_documentation_tells_what_can_be_run_and_what_is_refused() -> None:
    supported, readme = (ROOT / "docs/supported.md").read_text(), (ROOT / "README.md").read_text()
    for name in METHODS:
        if is_eap(name) and name != "eap":
            assert (name.upper().replace("V2", "v2") in supported) == (name in SUPPORTED), name
            assert (name.upper() in readme) == (name in REFUSED), name
