"""Keys for Wireshark, on explicit request only: its `ikev2_decryption_table` and `esp_sa` formats.

Whoever has these files can read everything the tunnel carried. They are created new, with mode 0600.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ikeclient.crypto.keymat import DirectionKeys
from ikeclient.crypto.transforms import Encryption, Integrity
from ikeclient.errors import UsageError
from ikeclient.ike.events import ChildEstablished, IkeKeysDerived, IPAddress

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
    """Appends to two files in a directory of the person's choice; raises UsageError when it cannot make them.

    A line that cannot be written later, to a full disk, is lost: the tunnel is worth more.
    """

    def __init__(self, directory: Path) -> None:
        # Opened once: later the process may have given up the rights to do so.
        self._ike = _open(directory / "ikev2_decryption_table")
        self._esp = _open(directory / "esp_sa")

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


def _open(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        hint = "--insecure-keylog wants a directory of yours"
        raise UsageError(f"cannot write keys to {path}", reason=error.strerror, hint=hint) from error
    return descriptor
