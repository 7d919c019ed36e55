"""What agents show of a connection's secrets."""

from __future__ import annotations

import configparser
import io
import sys

import pytest

from ikeclient.networkmanager import auth_dialog

DETAILS = """DATA_KEY=gateway.address
DATA_VAL=192.0.2.1

DATA_KEY=auth.method
DATA_VAL=psk

DATA_KEY=auth.identity
DATA_VAL=alice

DATA_KEY=auth.psk-flags
DATA_VAL=1

SECRET_KEY=auth.password
SECRET_VAL=first
=second

DONE

QUIT

"""


def test_details_may_have_several_lines() -> None:
    data, secrets = auth_dialog.read_details(io.StringIO(DETAILS))
    assert data["auth.method"] == "psk"
    assert secrets == {"auth.password": "first\nsecond"}


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], details: str, *options: str) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(details))
    arguments = ["-u", "1", "-n", "At work", "-s", "org.freedesktop.NetworkManager.ikeclient", *options]
    assert auth_dialog.main(arguments) == 0
    return capsys.readouterr().out


def shown(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    assert parser["VPN Plugin UI"]["version"] == "2"
    return parser


WITHOUT = DETAILS.replace("SECRET_KEY=auth.password\nSECRET_VAL=first\n=second\n\n", "")


def test_the_secret_that_is_missing_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shown(run(monkeypatch, capsys, WITHOUT, "--external-ui-mode", "-i"))
    assert found["auth.psk"]["shouldask"] == "true"
    assert found["auth.psk"]["issecret"] == "true"
    assert found["auth.psk"]["label"] == "Pre-shared key"


def test_nobody_is_asked_where_that_is_not_allowed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = shown(run(monkeypatch, capsys, WITHOUT, "--external-ui-mode"))
    assert found["auth.psk"]["shouldask"] == "false"


def test_a_known_secret_is_handed_on_and_asked_for_again_if_it_was_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known = WITHOUT.replace("DONE", "SECRET_KEY=auth.psk\nSECRET_VAL=a back\\slash of 16\n\nDONE")
    found = shown(run(monkeypatch, capsys, known, "--external-ui-mode", "-i"))
    assert found["auth.psk"]["value"] == "a back\\\\slash of 16"
    assert found["auth.psk"]["shouldask"] == "false"
    again = shown(run(monkeypatch, capsys, known, "--external-ui-mode", "-i", "-r"))
    assert again["auth.psk"]["shouldask"] == "true"


def test_a_question_of_the_gateways_is_shown_as_it_came(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hints = ("-t", "x-vpn-message:the gateway asks: one-time code\n[x]", "-t", "answer")
    found = shown(run(monkeypatch, capsys, WITHOUT, "--external-ui-mode", "-i", *hints))
    assert found.sections() == ["VPN Plugin UI", "answer"]
    assert found["answer"]["label"].startswith("the gateway asks: one-time code")
