"""The tunnel of the published contract for `status --json`, with every key it promises."""

from __future__ import annotations

import copy
from typing import Any

_EXAMPLE: dict[str, Any] = {
    "name": "work",
    "pid": 4711,
    "user": "root",
    "state": "connected",
    "since": "2026-11-23T08:00:00Z",
    "connect_ms": 412,
    "interface": "ike0",
    "mtu": 1400,
    "path_mtu": 1462,
    "mode": "tun",
    "blocked": False,
    "kill_switch": None,
    "offload": {"fast": True, "codec": "compiled", "tun_udp": True, "udp_segments": True, "udp_merges": False},
    "cipher": "OpenSSL, a run with one call",
    "gateway": {
        "address": "203.0.113.7",
        "port": 4500,
        "identity": "vpn.example.com",
        "auth": [
            {
                "method": "certificate",
                "subject": "CN=vpn",
                "serial": "1d7e",
                "signature": "Ed25519",
                "key": None,
                "revocation": None,
                "expires": "2027-11-23T08:00:00Z",
            }
        ],
    },
    "local": {"address": "192.0.2.10", "port": 4500, "behind_nat": True, "auth": []},
    "remote_behind_nat": False,
    "addresses": ["10.88.0.1/32"],
    "dns": {"servers": ["10.99.0.53"], "domains": ["corp.example"]},
    "dns_names": "split",
    "p_cscf": [],
    "routes": ["10.99.0.0/24"],
    "ike": {
        "spi_i": "0123456789abcdef",
        "spi_r": "fedcba9876543210",
        "suite": "aes256gcm16-prfsha384-ecp384",
        "established": "2026-11-23T08:00:00Z",
        "rekey_in": 14000,
        "rekeys": 0,
        "mobike": True,
        "rtt_ms": 23,
        "fragmentation": True,
        "ppk": False,
    },
    "children": [
        {
            "spi_in": "c1a2b3c4",
            "spi_out": "9f00aa12",
            "suite": "aes256gcm16",
            "local_ts": ["10.88.0.1/32"],
            "remote_ts": ["10.99.0.0/24"],
            "rekey_in": 3500,
            "rekeys": 0,
            "bytes_in": 0,
            "bytes_out": 0,
            "packets_in": 0,
            "packets_out": 0,
            "replays": 0,
            "auth_failures": 0,
            "selector_drops": 0,
            "malformed": 0,
            "congested": 0,
            "dummies": 0,
            "exhausted": 0,
        }
    ],
    "idle": False,
    "totals": {
        "bytes_in": 0,
        "bytes_out": 0,
        "packets_in": 0,
        "packets_out": 0,
        "replays": 0,
        "auth_failures": 0,
        "selector_drops": 0,
        "malformed": 0,
        "congested": 0,
        "dummies": 0,
        "exhausted": 0,
        "ike_rekeys": 0,
        "child_rekeys": 0,
        "cpu_ms": 0,
    },
    "drops": {
        "unrouted": 0,
        "no_path": 0,
        "too_big": 0,
        "not_sent": 0,
        "malformed": 0,
        "unknown_spi": 0,
        "unknown_ike": 0,
        "receive_overflows": 0,
        "not_delivered": 0,
    },
    "roams": 0,
    "reconnects": 0,
    "watch": None,
    "warnings": [],
    "last_error": None,
}


def example(**changes: Any) -> dict[str, Any]:
    """A copy of the example with some keys changed."""
    return {**copy.deepcopy(_EXAMPLE), **changes}


def keys(value: Any, prefix: str = "") -> set[str]:
    """All keys with the path that leads to them, for comparing shapes."""
    if isinstance(value, list):
        return set().union(*(keys(item, prefix) for item in value))
    if not isinstance(value, dict):
        return set()
    inner = (keys(item, f"{prefix}{key}.") for key, item in value.items())
    return {f"{prefix}{key}" for key in value}.union(*inner)
