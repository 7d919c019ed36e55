"""What asks for a connection's secrets, without a window of its own.

The user's agent (GNOME's shell, nmcli) starts it with `--external-ui-mode`, shows what it prints, and keeps the
answers. Without that mode it only hands on what is known.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Mapping
from typing import TextIO

from ikeclient.errors import IkeclientError
from ikeclient.networkmanager.connection import VpnConnection, missing_secrets
from ikeclient.networkmanager.keyfile import escaped
from ikeclient.profile.load.connection import FLAGS
from ikeclient.wire.text import printable

_MESSAGE = "x-vpn-message:"  # how a hint begins that is a sentence for the person
_LABELS = {"password": "Password", "psk": "Pre-shared key", "key_passphrase": "Passphrase of the key", "pin": "PIN"}
_NOT_SAVED = 2
_MOST_LINES = 10_000


def main(arguments: list[str] | None = None) -> int:
    """Run the program; returns its exit code."""
    parser = argparse.ArgumentParser(prog="ikeclient-auth-dialog", description="Asks for secrets of NetworkManager's.")
    parser.add_argument("-u", "--uuid")
    parser.add_argument("-n", "--name", default="")
    parser.add_argument("-s", "--service")
    parser.add_argument("-i", "--allow-interaction", action="store_true")
    parser.add_argument("-r", "--reprompt", action="store_true")
    parser.add_argument("-t", "--hint", action="append", default=[])
    parser.add_argument("--external-ui-mode", action="store_true")
    chosen, _ = parser.parse_known_args(arguments)
    data, secrets = read_details(sys.stdin)
    connection = VpnConnection(name=chosen.name or "VPN", data=data, secrets=secrets)
    wanted = asked_for(connection, chosen.hint, again=chosen.reprompt)
    if chosen.external_ui_mode:
        sys.stdout.write(external_ui(connection, wanted, chosen.hint, may_ask=chosen.allow_interaction))
        return 0
    if any(not known or again for known, again in wanted.values()):
        print("ikeclient-auth-dialog: this agent shows no prompts of plugins; use GNOME's or nmcli", file=sys.stderr)
        return 1
    sys.stdout.write("".join(f"{key}\n{known}\n" for key, (known, _) in wanted.items()) + "\n\n")
    return 0


def read_details(source: TextIO) -> tuple[dict[str, str], dict[str, str]]:
    """The connection's data and secrets, as an agent writes them; a line that begins with `=` continues a value."""
    found: dict[str, dict[str, str]] = {"DATA": {}, "SECRET": {}}
    key, table, open_value = "", found["DATA"], False
    for number, raw in enumerate(source):
        line = raw.rstrip("\n")
        if line == "DONE" or number > _MOST_LINES:
            break
        name, _, value = line.partition("=")
        kind, _, part = name.partition("_")
        if line.startswith("=") and open_value:
            table[key] += "\n" + value
        elif kind in found and part == "KEY":
            key, table, open_value = value, found[kind], False
        elif kind in found and part == "VAL" and key:
            table[key], open_value = value, True
    return found["DATA"], found["SECRET"]


def asked_for(connection: VpnConnection, hints: Iterable[str], *, again: bool) -> dict[str, tuple[str, bool]]:
    """The secrets by their keys, each with what is known of it and whether it is to be asked for.

    `hints` name those that the plugin wants; without, it is what the connection lacks. With `again` what is known was
    wrong.
    """
    named = [hint for hint in hints if not hint.startswith(_MESSAGE)]
    if named:
        return {key: ("" if again else connection.secrets.get(key, ""), True) for key in named}
    try:
        missing = [".".join(key) for key in missing_secrets(connection)]
    except IkeclientError:
        missing = []  # a file that we may not read: what is wrong is told when it connects
    found = {key: (value, again) for key, value in connection.secrets.items()}
    for key in missing:
        found.setdefault(key, ("", True))
    for key in connection.data:
        if key.endswith(FLAGS) and (secret := key.removesuffix(FLAGS)) not in found and _is_asked(connection, key):
            found[secret] = ("", True)
    return found


def _is_asked(connection: VpnConnection, flags: str) -> bool:
    """Whether a secret with these flags is one to type each time, although nothing says yet that it is needed."""
    written = connection.data[flags]
    return written.isascii() and written.isdigit() and bool(int(written) & _NOT_SAVED)


def external_ui(
    connection: VpnConnection, wanted: Mapping[str, tuple[str, bool]], hints: Iterable[str], *, may_ask: bool
) -> str:
    """What the agent shows, as it wants it: a keyfile."""
    message = next((hint.removeprefix(_MESSAGE) for hint in hints if hint.startswith(_MESSAGE)), "")
    text = message or f"Secrets are needed to connect to {connection.name}"
    lines = ["[VPN Plugin UI]", "Version=2", f"Title=Connect to {_line(connection.name)}", f"Description={_line(text)}"]
    for key, (known, ask) in wanted.items():
        label = _line(message) if message and key == "answer" else label_of(key, connection)
        shown = "true" if ask and may_ask else "false"
        lines += ["", f"[{key}]", f"Value={escaped(known)}", f"Label={label}", "IsSecret=true", f"ShouldAsk={shown}"]
    return "\n".join(lines) + "\n"


def label_of(key: str, connection: VpnConnection) -> str:
    """What a secret is called for people."""
    section, _, last = key.partition(".")
    label = _LABELS.get(last.rpartition(".")[2], "Answer")
    if key == "ppk.secret":
        label = "Post-quantum key"
    account = connection.data.get(f"{section}.user") or connection.data.get(f"{section}.identity")
    return f"{label} of {_line(account)}" if account and last == "password" else label


def _line(text: str) -> str:
    """Text as a value of a keyfile."""
    return printable(text, 1000).replace("\\", "\\\\")


if __name__ == "__main__":
    sys.exit(main())
