"""Servers of others that the recipes go to: a git repository and a package index over HTTP, and ssh."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path

from lab.machines import Machine, wait_for


def make_repository(directory: Path) -> str:
    """A bare repository `repo.git` that can be cloned over plain HTTP; the hash of its commit."""

    def git(*arguments: str) -> str:
        who = ("-c", "user.name=a", "-c", "user.email=a@corp.example", "-c", "init.defaultBranch=main")
        command = ("git", "-C", str(directory / "repo.git"), *who, *arguments)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    (directory / "repo.git").mkdir(parents=True)
    git("init", "--bare", "-q")
    tree = git("mktree")
    commit = git("commit-tree", tree, "-m", "first")
    git("update-ref", "refs/heads/main", commit)
    git("update-server-info")
    return commit


def make_wheel(directory: Path, name: str = "tiny") -> str:
    """A package index with one package; the hash of its wheel."""
    folder = directory / "simple" / name
    folder.mkdir(parents=True)
    wheel = folder / f"{name}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(f"{name}.py", "")
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        archive.writestr(
            f"{name}-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{name}-1.0.dist-info/RECORD", "")
    (folder / "index.html").write_text(f'<!DOCTYPE html><a href="{wheel.name}">{wheel.name}</a>\n')
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def serve_ssh(machine: Machine, authorized: str, directory: Path) -> str:
    """dropbear on port 22, for root with that key; returns its own public key.

    root's home in this machine is below its own /run.
    """
    machine.run("sed", "-i", "s#:/root:#:/run/root:#", "/etc/passwd")
    machine.run("mkdir", "-m", "700", "-p", "/run/root/.ssh")
    machine.write_file("/run/root/.ssh/authorized_keys", authorized)
    machine.run("chmod", "600", "/run/root/.ssh/authorized_keys")
    key = directory / "host"
    made = machine.run("dropbearkey", "-t", "ed25519", "-f", str(key)).stdout
    machine.start("dropbear", "-F", "-E", "-s", "-p", "22", "-r", str(key), "-P", "/run/dropbear.pid")
    wait_for(lambda: machine.run("ss", "-Hltn", "sport = :22").stdout, timeout=20, what="dropbear")
    return next(line for line in made.splitlines() if line.startswith("ssh-"))
