"""What a run is to reach, and what it has reached."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.world import Figures

OURS_35 = "ours-openssl35"
CONNECTED_35 = "ours-strongswan-openssl35"
SENDER = "sender_cpu_us_per_packet", "sender_kernel_us_per_packet"

# What it is called, who reached it, who it is compared with, the figure, and the target; without one: for orientation.
Target = tuple[str, str, str, str, str, float | None]
TARGETS: tuple[Target, ...] = (
    ("TCP up / wireguard-go", "ours", "wireguard-go", "tcp_up", ">=", 1.2),
    ("TCP down / wireguard-go", "ours", "wireguard-go", "tcp_down", ">=", 1.2),
    ("TCP up / wireguard-go, OpenSSL 3.5", OURS_35, "wireguard-go", "tcp_up", ">=", 1.5),
    ("TCP down / wireguard-go, OpenSSL 3.5", OURS_35, "wireguard-go", "tcp_down", ">=", 1.5),
    ("TCP both ways at once / wireguard-go", "ours", "wireguard-go", "tcp_both", ">=", 1.2),
    ("64-byte packets / wireguard-go", "ours", "wireguard-go", "udp64_kpps", ">=", 1.0),
    ("TCP up, ChaCha20-Poly1305 / AES-GCM", "ours-chacha", "ours", "tcp_up", "", None),
    ("TCP down, ChaCha20-Poly1305 / AES-GCM", "ours-chacha", "ours", "tcp_down", "", None),
    ("TCP up, AES-CBC with HMAC-SHA-256 / AES-GCM", "ours-cbc", "ours", "tcp_up", "", None),
    ("TCP down, AES-CBC with HMAC-SHA-256 / AES-GCM", "ours-cbc", "ours", "tcp_down", "", None),
    ("TCP up / with `cryptography`", "ours", "ours-cryptography", "tcp_up", ">=", 1.0),
    ("TCP down / with `cryptography`", "ours", "ours-cryptography", "tcp_down", ">=", 1.0),
    ("TCP up / strongSwan", "ours", "strongswan", "tcp_up", ">=", 6.0),
    ("TCP down / strongSwan", "ours", "strongswan", "tcp_down", ">=", 6.0),
    *(
        (
            f"client CPU per GB {way} / strongSwan's{words}",
            peer,
            "strongswan",
            f"tcp_{way}_client_cpu_s_per_gb",
            "<=",
            most,
        )
        for words, peer, most in (("", "ours-strongswan", 0.20), (", OpenSSL 3.5", CONNECTED_35, 0.18))
        for way in ("up", "down")
    ),
    ("idle ping / wireguard-go", "ours", "wireguard-go", "ping_ms", "<=", 1.0),
    ("UDP flood delivered / wireguard-go", "ours", "wireguard-go", "udp_flood", ">=", 4.0),
    ("plain codec TCP up / strongSwan", "ours-plain", "strongswan", "tcp_up", ">=", 1.5),
    ("plain codec TCP down / strongSwan", "ours-plain", "strongswan", "tcp_down", ">=", 1.5),
    ("resident MiB, connected", "ours-strongswan", "", "client_mib", "<=", 80.0),
    ("memory of all processes (PSS), MiB", "ours-strongswan", "", "pss_mib", "<=", 45.0),
    ("wakeups a minute, idle", "ours-strongswan", "", "wakeups_min", "<=", 8.0),
    ("`connect --detach`, start to exit, s", "ours-strongswan", "", "detach_s", "<=", 0.4),
    ("connect to first ping, s", "ours-strongswan", "", "connect_s", "<=", 0.6),
    ("`ikeclient --help`, s", "ours-strongswan", "", "help_s", "<=", 0.25),
    ("loaded ping / idle ping", "ours", "ours", "ping_loaded_ms/ping_ms", "<=", 3.0),
)
MANY_FLOWS, MOST_OF_MANY_FLOWS = 64, 1.15


def reached(found: Mapping[str, Figures], targets: Sequence[Target]) -> list[dict[str, object]]:
    """Every target with what was reached."""
    rows: list[dict[str, object]] = []
    for words, peer, other, key, sign, target in targets:
        upper, _, lower = key.partition("/")
        value = found.get(peer, {}).get(upper)
        base = found.get(other, {}).get(lower or upper) if other else 1.0
        ratio = value / base if value is not None and base else None
        rows.append({"figure": words, "reached": ratio, "sign": sign, "target": target})
    return rows


def ratios(found: Mapping[str, Figures], curve: Sequence[Figures]) -> list[dict[str, object]]:
    """Every target of the data planes with what was reached."""
    rows = reached(found, TARGETS)
    rows.append(
        {
            "figure": f"{MANY_FLOWS} flows / one flow, our own CPU per packet at the sender",
            "reached": _many_flows(curve),
            "sign": "<=",
            "target": MOST_OF_MANY_FLOWS,
        }
    )
    return rows


def _many_flows(curve: Sequence[Figures]) -> float | None:
    total, kernel = SENDER
    own = {row["flows"]: row[total] - row[kernel] for row in curve if row["tcp"] and row["flows"] in (1, MANY_FLOWS)}
    return own[MANY_FLOWS] / own[1] if len(own) == 2 and own[1] else None


def met(reached: float | None, sign: str, target: float | None) -> bool | None:
    """Whether a target was reached; None if that cannot be said."""
    if reached is None or target is None:
        return None
    return reached >= target if sign == ">=" else reached <= target
