"""Wireshark as an independent reader of IKE messages."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from struct import pack

import pytest

SOURCE, DESTINATION = bytes((192, 0, 2, 2)), bytes((192, 0, 2, 1))

needs_wireshark = pytest.mark.skipif(
    shutil.which("tshark") is None, reason="tshark is not installed: no independent reading of our IKE messages"
)


def capture(messages: Sequence[bytes]) -> bytes:
    """A pcap file in which each message is one UDP datagram on port 500 (link type 101: bare IP)."""
    result = [pack("<IHHIIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 101)]
    for message in messages:
        udp = pack(">HHHH", 500, 500, 8 + len(message), 0) + message
        ip = pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0) + SOURCE + DESTINATION + udp
        result.append(pack("<IIII", 0, 0, len(ip), len(ip)) + ip)
    return b"".join(result)


def tshark(file: Path, *arguments: str) -> list[list[str]]:
    """The fields that tshark prints for each packet of a file, with no settings but those given."""
    result = subprocess.run(
        ["tshark", "-r", file, "-T", "fields", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={"HOME": str(file.parent), "PATH": os.environ["PATH"]},
    )
    return [line.split("\t") for line in result.stdout.splitlines()]


def dissect(
    directory: Path, messages: Sequence[bytes], fields: Sequence[str], options: Sequence[str] = ()
) -> list[dict[str, str]]:
    """What tshark finds: for each message the values of `fields`, joined with spaces where there are several."""
    file = directory / "ike.pcap"
    file.write_bytes(capture(messages))
    wanted = [part for field in fields for part in ("-e", field)]
    rows = tshark(file, "-E", "aggregator=/s", *wanted, *options)
    assert len(rows) == len(messages)
    return [dict(zip(fields, row, strict=True)) for row in rows]
