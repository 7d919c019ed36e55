"""What the kernel tells of a process in proc_pid_status(5)."""

from __future__ import annotations

from pathlib import Path


def status_of(pid: int | str = "self") -> dict[str, str]:
    """The fields of /proc/PID/status; of a thread with `PID/task/TID`."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
