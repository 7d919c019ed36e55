"""Keys for Wireshark: tshark, which knows nothing of us, decrypts our own sessions with the files that we wrote."""

from __future__ import annotations

import csv
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from lab.capture import Capture
from lab.gateway import Offer
from lab.machines import wait_for
from lab.network import CLIENT_IPV4, GATEWAY_IPV4, GATEWAY_IPV6, GATEWAY_NAME, INSIDE_IPV4
from lab.pki import CLIENT_NAME
from lab.traffic import ping
from lab.world import Lab

NAMES = ("esp_sa", "ikev2_decryption_table")
OPTIONS = ("esp.enable_encryption_decode:TRUE", "esp.enable_authentication_check:TRUE")
SUITES = [
    ("aes256gcm16-prfsha384-ecp384", "aes128gcm16"),
    ("aes128ccm16-prfsha256-x25519", "aes256gcm16"),
    ("aes256-sha256-modp2048", "aes256-sha256"),
    ("aes128-sha1-modp2048", "aes128-sha1"),
    ("aes256-sha512-x25519", "aes256-sha512"),
]


def decrypted(capture: Capture, keys: Path, display_filter: str, *fields: str) -> list[tuple[str, ...]]:
    """What tshark sees with the tables of `keys` as a person's own: a copy in a configuration directory of its own."""
    home = keys.parent / "wireshark-home"
    shutil.copytree(keys, home / "wireshark", dirs_exist_ok=True)
    wanted = [word for field in fields for word in ("-e", field)]
    options = [word for option in OPTIONS for word in ("-o", option)]
    command = ["tshark", "-n", "-r", str(capture.path), *options, "-Y", display_filter, "-T", "fields", *wanted]
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "XDG_CONFIG_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return [tuple(line.split("\t")) for line in done.stdout.splitlines()]


def record(lab: Lab, keys: Path, *, pings: int = 3) -> Capture:
    """The recording of a whole connection, with pings inside."""
    keys.mkdir(exist_ok=True)
    with lab.capture() as capture:
        connection = lab.client.connect("work", "--insecure-keylog", str(keys))
        assert ping(lab.network.client, INSIDE_IPV4, count=pings) == pings
        assert connection.terminate() == 0
    assert "whoever reads them can read the traffic" in connection.stderr
    return capture


@pytest.mark.parametrize(("ike", "esp"), SUITES, ids=[f"{ike},{esp}" for ike, esp in SUITES])
def test_wireshark_reads_both_protocols_with_our_keys(lab: Lab, ike: str, esp: str) -> None:
    lab.prepare(Offer(proposals=ike, esp_proposals=esp), crypto={"ike": [ike], "esp": [esp]})
    keys = lab.client.directory / "keys"
    capture = record(lab, keys)
    assert sorted(path.name for path in keys.iterdir()) == sorted(NAMES)
    assert {stat.S_IMODE(path.stat().st_mode) for path in keys.iterdir()} == {0o600}
    identities = decrypted(
        capture, keys, "isakmp.exchangetype == 35", "isakmp.id.data.user_fqdn", "isakmp.id.data.fqdn"
    )
    assert identities == [(CLIENT_NAME, GATEWAY_NAME), ("", GATEWAY_NAME)]
    asked = decrypted(capture, keys, "isakmp.exchangetype == 37 and isakmp.flag_r == 0", "isakmp.typepayload")
    probe, *_, farewell = (types.split(",") for (types,) in asked)  # of the path's MTU, and the DELETE
    assert (probe, farewell) == (["46", "41"], ["46", "42"])
    inside = decrypted(capture, keys, "icmp", "ip.src", "icmp.type")
    assert len(inside) == 6
    for sources, kind in inside:
        outer, inner = sources.split(",")
        pairs = {"8": (CLIENT_IPV4, "10.88.0.1"), "0": (GATEWAY_IPV4, INSIDE_IPV4)}
        assert (outer, inner) == pairs[kind]
    assert decrypted(capture, keys, "esp.icv_bad == 1", "frame.number") == []


def test_what_wireshark_has_no_name_for_is_left_out_or_good_for_newer_ones(lab: Lab) -> None:
    """ChaCha20-Poly1305: a line that this Wireshark refuses would cost the others; the ESP keys are the right ones."""
    suite = "chacha20poly1305-prfsha256-x25519"
    lab.prepare(
        Offer(proposals=suite, esp_proposals="chacha20poly1305"), crypto={"ike": [suite], "esp": ["chacha20poly1305"]}
    )
    keys = lab.client.directory / "keys"
    capture = record(lab, keys)
    lines = (keys / "ikev2_decryption_table").read_text().splitlines()
    assert [line[0] for line in lines] == ["#"]
    entries = list(csv.reader((keys / "esp_sa").read_text().splitlines()))
    inside = []
    for (payload,) in capture.packets("esp", "udp.payload"):
        data = bytes.fromhex(payload.replace(":", ""))
        _, source, destination, _, name, key, *_ = next(entry for entry in entries if int(entry[3], 16) == _spi(data))
        assert name == "ChaCha20 with Poly1305 [RFC7634]"
        secret = bytes.fromhex(key[2:])
        inner = ChaCha20Poly1305(secret[:-4]).decrypt(secret[-4:] + data[8:16], data[16:], data[:8])
        inside.append((source, destination, inner[9], inner[20]))
    there, back = (CLIENT_IPV4, GATEWAY_IPV4, 1, 8), (GATEWAY_IPV4, CLIENT_IPV4, 1, 0)
    assert inside == [there, back] * 3


def _spi(data: bytes) -> int:
    return int.from_bytes(data[:4], "big")


def test_every_rekeying_adds_its_keys(lab: Lab) -> None:
    lab.prepare(gateway={"address": GATEWAY_IPV6})
    keys = lab.client.directory / "keys"
    keys.mkdir()
    with lab.capture() as capture:
        connection = lab.client.connect("work", "--insecure-keylog", str(keys), "--verbose")
        for what in ("child", "ike"):
            lab.gateway.rekey(**{"child": "net"} if what == "child" else {"ike": "rw"})
            wait_for(lambda what=what: f"rekeyed the {what}" in connection.stderr, timeout=10, what=f"a new {what} SA")
        assert ping(lab.network.client, INSIDE_IPV4) == 3
        assert connection.terminate() == 0
    assert len((keys / "esp_sa").read_text().splitlines()) == 4
    assert len((keys / "ikev2_decryption_table").read_text().splitlines()) == 2
    assert len(decrypted(capture, keys, "icmp and ipv6", "frame.number")) == 6
    payloads = decrypted(capture, keys, "isakmp.exchangetype == 37 and isakmp.flag_r == 0", "isakmp.typepayload")
    kinds = [types.split(",")[1:] for (types,) in payloads]
    assert ["42"] in kinds
    assert all(kind in ([], ["41"], ["42"]) for kind in kinds), "empty, a probe of the path's MTU, or a DELETE"


def test_no_key_is_written_without_being_asked_for(lab: Lab) -> None:
    """O17: nothing but the explicit option discloses keys, at whatever verbosity."""
    connection = lab.connected(None, "-vvv")
    assert ping(lab.network.client, INSIDE_IPV4) == 3
    machine = lab.network.client
    found = machine.run("find", "/run", "/etc", str(lab.client.directory), "-name", NAMES[0], "-o", "-name", NAMES[1])
    assert found.stdout == ""
    assert connection.terminate() == 0


def test_keys_go_only_into_new_private_files(lab: Lab) -> None:
    """O17, F14: no link is followed, and a directory that is not there is an error before any packet."""
    lab.prepare()
    keys = lab.client.directory / "keys"
    missing = lab.client.start("work", "--insecure-keylog", str(keys))
    assert missing.wait() == 2
    assert str(keys) in missing.stderr
    keys.mkdir()
    elsewhere = lab.client.directory / "elsewhere"
    elsewhere.touch()
    (keys / NAMES[0]).symlink_to(elsewhere)
    linked = lab.client.start("work", "--insecure-keylog", str(keys))
    assert linked.wait() == 2
    assert elsewhere.read_bytes() == b""
    assert lab.gateway.list_sas() == []


def test_keys_never_go_to_what_another_user_prepared(lab: Lab) -> None:
    """F18: nothing is written, nothing waits for a reader, and no packet is sent; nor by a second connection."""
    lab.prepare()
    directory = lab.client.directory
    for number, make in enumerate((os.mkfifo, Path.touch)):
        keys = directory / f"keys{number}"
        keys.mkdir()
        make(keys / "esp_sa")
        os.chown(keys, 54321, 54321)
        for owner in (54321, 0):
            os.chown(keys, owner, owner)
            refused = lab.client.start("work", "--insecure-keylog", str(keys))
            assert refused.wait() == 2
        assert "esp_sa is there already" in refused.stderr
        assert [path.name for path in keys.iterdir()] == ["esp_sa"]
    assert lab.gateway.list_sas() == []
    keys = directory / "new"
    keys.mkdir()
    first = lab.client.connect("work", "--insecure-keylog", str(keys))
    assert first.terminate() == 0
    written = (keys / "esp_sa").read_bytes()
    second = lab.client.start("work", "--insecure-keylog", str(keys))
    assert second.wait() == 2
    assert (keys / "esp_sa").read_bytes() == written
