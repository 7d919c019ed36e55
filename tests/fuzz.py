"""Throw damaged and odd input at everything that reads what others wrote, for a bounded time.

    python -m fuzz [--seconds N] [--seed N] [--only TARGET]

Whatever comes in, only the documented errors may come out, and soon. A failure prints the seed that leads back to it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

_TESTS = Path(__file__).resolve().parent
sys.path += [str(_TESTS / name) for name in ("eap", "sim", "profile") if str(_TESTS / name) not in sys.path]

import fuzz_certificates  # noqa: E402 - they need the path above
import fuzz_eap  # noqa: E402
import fuzz_files  # noqa: E402
import fuzz_ike  # noqa: E402
import fuzz_packets  # noqa: E402

from ikeclient.esp.codec import choice as offload  # noqa: E402

TARGETS: dict[str, Callable[[Random], None]] = {
    "wire": fuzz_packets.wire,
    "eap": fuzz_packets.eap,
    "eap fragments": fuzz_eap.fragments,
    "eap attributes": fuzz_eap.attributes,
    "eap cards": fuzz_eap.card_attributes,
    "eap tunnel": fuzz_eap.tunnel,
    "esp": fuzz_packets.esp,
    "offload": fuzz_packets.offloaded,
    "proxy": fuzz_packets.proxy,
    "certificate": fuzz_certificates.certificate,
    "signature": fuzz_certificates.signature,
    "revocation": fuzz_certificates.revocation,
    "bundles": fuzz_certificates.bundles,
    "identity": fuzz_certificates.identity,
    "envelope": fuzz_ike.envelope,
    "configuration": fuzz_ike.configuration,
    "selectors": fuzz_ike.selectors,
    "initiator": fuzz_ike.initiator,
    "established": fuzz_ike.established,
    "profile": fuzz_files.profile,
    "imports": fuzz_files.imports,
    "control": fuzz_files.control,
}
LIMIT = 2.0  # seconds of this process that one case may take; the slowest takes a tenth


def run(name: str, seed: str) -> None:
    """One case of a target; raises whatever should not have happened."""
    started = time.process_time()
    TARGETS[name](Random(seed))
    took = time.process_time() - started
    assert took < LIMIT, f"it took {took:.1f} s"


def main() -> None:
    """Share the time among the targets."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--only", choices=TARGETS)
    options = parser.parse_args()
    chosen = [options.only] if options.only else list(TARGETS)
    print(f"seed {options.seed}, {offload.describe()}", flush=True)
    for name in chosen:
        end, number = time.monotonic() + options.seconds / len(chosen), 0
        while time.monotonic() < end:
            number += 1
            try:
                run(name, f"{options.seed} {name} {number}")
            except Exception:
                print(f"{name}: case {number} of --seed {options.seed} failed", file=sys.stderr)
                raise
        print(f"{name}: {number} cases")


if __name__ == "__main__":
    main()
