"""A TPM of swtpm's with a token of tpm2-pkcs11 in it, in a directory of its own.

There is no resource manager between, so that the few places for objects that a TPM has are cleared before each tool.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

MODULE = Path("/usr/lib/x86_64-linux-gnu/libtpm2_pkcs11.so.1")
PIN = "123456"
_PROGRAMS = ("swtpm", "tpm2_ptool", "tpm2_flushcontext")
_WRAPPER = '#!/bin/sh\n/usr/bin/tpm2_flushcontext -t 2>/dev/null\nexec {program} "$@"\n'


def missing() -> list[str]:
    """What is not installed of it: swtpm, tpm2-tools, libtpm2-pkcs11-1, libtpm2-pkcs11-tools."""
    return [name for name in _PROGRAMS if shutil.which(name) is None] + ([] if MODULE.exists() else [MODULE.name])


class SoftTpm:
    """A TPM with a token called `work`. `variables` is the environment that leads to it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._socket = directory / "tpm"
        store = directory / "store"
        for path in (directory / "state", store, directory / "bin"):
            path.mkdir(parents=True)
        where = f"swtpm:path={self._socket}"
        self.variables = {"TPM2_PKCS11_TCTI": where, "TPM2_PKCS11_STORE": str(store), "TPM2_PKCS11_LOG_LEVEL": "0"}
        for program in Path("/usr/bin").glob("tpm2_*"):
            wrapper = directory / "bin" / program.name
            if program.name != "tpm2_ptool":
                wrapper.write_text(_WRAPPER.format(program=program))
                wrapper.chmod(0o755)
        own = {"PATH": f"{directory / 'bin'}:{os.environ['PATH']}", "TPM2TOOLS_TCTI": where}
        self._environment = {**os.environ, **self.variables, **own}
        self._store = ("--path", str(store))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Switch it on, and make the token."""
        words = ["swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._directory / 'state'}"]
        words += ["--server", f"type=unixio,path={self._socket}", "--ctrl", f"type=unixio,path={self._socket}.ctrl"]
        self._process = subprocess.Popen(
            [*words, "--flags", "not-need-init,startup-clear"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 30
        while not Path(f"{self._socket}.ctrl").exists():
            assert time.monotonic() < deadline, "swtpm does not start"
            time.sleep(0.02)
        self._tool("init")
        self._tool("addtoken", "--pid", "1", "--label", "work", "--sopin", "87654321", "--userpin", PIN)

    def add_key(self, key: Path, certificate: Path, algorithm: str) -> None:
        """Put a private key (`rsa` or `ecc`) and its certificate into it, as `vpn`."""
        which = ("--label", "work", "--key-label", "vpn")
        self._tool("import", *which, "--userpin", PIN, "--privkey", str(key), "--algorithm", algorithm)
        self._tool("addcert", *which, str(certificate))
        subprocess.run(["tpm2_flushcontext", "-t"], env=self._environment, check=False, capture_output=True)

    def stop(self) -> None:
        """Switch it off."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)

    def _tool(self, command: str, *arguments: str) -> None:
        words = ["tpm2_ptool", command, *self._store, *arguments]
        done = subprocess.run(words, env=self._environment, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stderr
