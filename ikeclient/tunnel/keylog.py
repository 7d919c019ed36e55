"""Keys for Wireshark, on explicit request only: its `ikev2_decryption_table` and `esp_sa` formats.

Whoever has these files can read everything the tunnel carried. So they are new files of our own, with mode 0600, in a
directory that nobody else can change: a file that is there already may belong to another user, be a link to a file that
others can read, or a FIFO (hardening F18).
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from ikeclient.crypto.algorithms.keymat import DirectionKeys
from ikeclient.crypto.algorithms.transforms import Encryption, Integrity
from ikeclient.errors import UsageError
from ikeclient.ike.events import ChildEstablished, IkeKeysDerived, IPAddress
from ikeclient.profile.load.files import shown_path, trusted_owners
from ikeclient.profile.load.trust import changeable

NAMES = ("ikev2_decryption_table", "esp_sa")
_HINT = "--insecure-keylog wants a directory that only you can write to"
_IKE_ENCRYPTION = {
    "aes128gcm16": "AES-GCM-128 with 16 octet ICV [RFC5282]",
    "aes256gcm16": "AES-GCM-256 with 16 octet ICV [RFC5282]",
    "aes128ccm16": "AES-CCM-128 with 16 octet ICV [RFC5282]",
    "aes256ccm16": "AES-CCM-256 with 16 octet ICV [RFC5282]",
    "aes128": "AES-CBC-128 [RFC3602]",
    "aes256": "AES-CBC-256 [RFC3602]",
}
_IKE_INTEGRITY = {
    "sha1": "HMAC_SHA1_96 [RFC2404]",
    "sha256": "HMAC_SHA2_256_128 [RFC4868]",
    "sha384": "HMAC_SHA2_384_192 [RFC4868]",
    "sha512": "HMAC_SHA2_512_256 [RFC4868]",
}
_ESP_ENCRYPTION = {
    "aes128gcm16": "AES-GCM with 16 octet ICV [RFC4106]",
    "aes256gcm16": "AES-GCM with 16 octet ICV [RFC4106]",
    "chacha20poly1305": "ChaCha20 with Poly1305 [RFC7634]",  # newer versions of Wireshark only
    "aes128": "AES-CBC [RFC3602]",
    "aes256": "AES-CBC [RFC3602]",
}
_ESP_INTEGRITY = {
    "sha1": "HMAC-SHA-1-96 [RFC2404]",
    "sha256": "HMAC-SHA-256-128 [RFC4868]",
    "sha384": "HMAC-SHA-384-192 [RFC4868]",
    "sha512": "HMAC-SHA-512-256 [RFC4868]",
}


def _unknown(protocol: str, encryption: Encryption, spi: str) -> str:
    """A comment where a line would make Wireshark refuse the whole file."""
    return f"# Wireshark has no name for {encryption.keyword} in {protocol}, so the SA {spi} is left out\n"


class KeyLog:
    """Writes two new files in a directory of the user's choice; raises UsageError if it cannot make them.

    A line that cannot be written later, to a full disk, is lost: the tunnel is worth more.
    """

    def __init__(self, directory: Path) -> None:
        # Opened once: later the process may have given up the rights to do so.
        self._ike, self._esp = _open_new(directory)

    @staticmethod
    def _log(descriptor: int, line: str) -> None:
        with contextlib.suppress(OSError):
            os.write(descriptor, line.encode())

    def ike(self, event: IkeKeysDerived) -> None:
        """Log the keys of an IKE SA."""
        keys, suite = event.keys, event.suite
        if suite.encryption.keyword not in _IKE_ENCRYPTION:
            self._log(self._ike, _unknown("IKE", suite.encryption, event.spi_i.hex()))
            return
        integrity = _IKE_INTEGRITY[suite.integrity.keyword] if suite.integrity else "NONE [RFC4306]"
        line = (
            f"{event.spi_i.hex()},{event.spi_r.hex()},{keys.ei.hex()},{keys.er.hex()},"
            f'"{_IKE_ENCRYPTION[suite.encryption.keyword]}",{keys.ai.hex()},{keys.ar.hex()},"{integrity}"\n'
        )
        self._log(self._ike, line)

    def child(self, child: ChildEstablished, local: IPAddress, remote: IPAddress) -> None:
        """Log the keys of both directions of a Child SA between two outer addresses."""
        suite = child.suite
        if suite.encryption.keyword not in _ESP_ENCRYPTION:
            self._log(self._esp, _unknown("ESP", suite.encryption, f"{child.spi_in:08x}"))
            return
        for source, destination, spi, keys in (
            (local, remote, child.spi_out, child.keys.outbound),
            (remote, local, child.spi_in, child.keys.inbound),
        ):
            self._log(self._esp, self._sa(source, destination, spi, keys, suite.encryption, suite.integrity))

    @staticmethod
    def _sa(
        source: IPAddress,
        destination: IPAddress,
        spi: int,
        keys: DirectionKeys,
        encryption: Encryption,
        integrity: Integrity | None,
    ) -> str:
        authentication = _ESP_INTEGRITY[integrity.keyword] if integrity else "NULL"
        key = f"0x{keys.integrity.hex()}" if integrity else ""
        return (
            f'"IPv{source.version}","{source}","{destination}","0x{spi:08x}",'
            f'"{_ESP_ENCRYPTION[encryption.keyword]}","0x{keys.encryption.hex()}","{authentication}","{key}"\n'
        )


def _open_new(directory: Path) -> list[int]:
    """Descriptors of the two files, both of them made here or neither."""
    try:
        place = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a path"
        raise UsageError(f"cannot write keys to {shown_path(directory)}", reason=reason, hint=_HINT) from None
    made: dict[str, int] = {}
    try:
        _require_private(directory, place)
        for name in NAMES:
            made[name] = _create(directory / name, place)
    except BaseException:
        for name, descriptor in made.items():
            os.close(descriptor)
            os.unlink(name, dir_fd=place)
        raise
    finally:
        os.close(place)
    return list(made.values())


def _require_private(directory: Path, place: int) -> None:
    """Refuse a directory in which others than root and we can make, move or replace files."""
    mode = stat.S_IMODE(os.fstat(place).st_mode)
    try:
        trouble = changeable(directory, trusted_owners(os.environ))
    except OSError as error:
        trouble = str(error.strerror), None
    if trouble is None and mode & 0o022:  # also with the sticky bit
        trouble = f"others may change (mode {mode:04o})", None
    if trouble is not None:
        message = f"keys cannot go to {shown_path(directory)}, which {trouble[0]}"
        raise UsageError(message, hint=trouble[1] or _HINT)


def _create(path: Path, place: int) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path.name, flags, 0o600, dir_fd=place)
    except FileExistsError:
        hint = "keys go to new files only: move it away, or name another directory"
        raise UsageError(f"{shown_path(path)} is there already", hint=hint) from None
    except OSError as error:
        raise UsageError(f"cannot write keys to {shown_path(path)}", reason=error.strerror, hint=_HINT) from None
