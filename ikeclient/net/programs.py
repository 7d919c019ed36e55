"""Programs of the system: found by absolute path, and run without a shell or anything of the caller's environment."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

DIRECTORIES = tuple(map(Path, ("/usr/sbin", "/usr/bin", "/sbin", "/bin")))
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
PATIENCE = 15.0  # seconds for one command


def run(
    arguments: Sequence[str], text: str = "", *, through_interrupts: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run a program that reads `text`, and return how it ended; what kept it from running stands in its stderr.

    `through_interrupts`: Ctrl-C on our terminal does not reach it.
    """
    try:
        return subprocess.run(  # noqa: S603 - absolute path, checked arguments
            arguments,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PATIENCE,
            env=ENVIRONMENT,
            check=False,
            process_group=0 if through_interrupts else None,
        )
    except OSError as error:
        return subprocess.CompletedProcess(arguments, 126, "", error.strerror or str(error))
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(arguments, 124, "", f"no answer within {PATIENCE:.0f} seconds")
