"""The arithmetic of MS-CHAPv2 (RFC 2759 section 8) and of the keys made from it (RFC 3079 section 3.4).

Both sides know the MD4 hash of the password. The response proves ours with three DES encryptions of a challenge hash;
the authenticator response proves the gateway's over our response. The master key mixes the same secret with the
response, so that it differs in every conversation.
"""

from __future__ import annotations

from ikeclient.crypto.algorithms.legacy import des_encrypt_block, md4, rc4, sha1

CHALLENGE_LENGTH = 16
PASSWORD_BLOCK = 512  # bytes that hold a new password, without its length

_SIGNING_MAGIC = b"Magic server to client signing constant"
_ITERATION_MAGIC = b"Pad to make it do more than one iteration"
_MASTER_KEY_MAGIC = b"This is the MPPE Master Key"
_PEER_TO_GATEWAY_MAGIC = b"On the client side, this is the send key; on the server side, it is the receive key."
_GATEWAY_TO_PEER_MAGIC = b"On the client side, this is the receive key; on the server side, it is the send key."
_PAD_1 = b"\x00" * 40
_PAD_2 = b"\xf2" * 40


def nt_password_hash(password: str) -> bytes:
    """RFC 2759 section 8.3: 16 bytes, as good as the password for whoever has them."""
    return md4(password.encode("utf-16-le"))


def challenge_hash(peer_challenge: bytes, gateway_challenge: bytes, user: bytes) -> bytes:
    """RFC 2759 section 8.2: the 8 bytes that get encrypted. `user` is without a domain."""
    return sha1(peer_challenge + gateway_challenge + user)[:8]


def nt_response(challenge: bytes, password_hash: bytes) -> bytes:
    """RFC 2759 section 8.5: the 24 bytes that prove the password; `challenge` is the challenge hash."""
    key = password_hash.ljust(21, b"\0")
    return b"".join(des_encrypt_block(key[at : at + 7], challenge) for at in (0, 7, 14))


def authenticator_response(challenge: bytes, password_hash: bytes, response: bytes) -> bytes:
    """RFC 2759 section 8.7: the 20 bytes behind `S=`, with which the gateway proves the same password."""
    digest = sha1(md4(password_hash) + response + _SIGNING_MAGIC)
    return sha1(digest + challenge + _ITERATION_MAGIC)


def encrypted_password(new: str, old_hash: bytes, padding: bytes) -> bytes:
    """RFC 2759 section 8.9: the new password for who has the hash of the old one; `padding` is 512 random bytes."""
    text = new.encode("utf-16-le")
    block = padding[: PASSWORD_BLOCK - len(text)] + text + len(text).to_bytes(4, "little")
    return rc4(old_hash, block)


def encrypted_hash(old_hash: bytes, new_hash: bytes) -> bytes:
    """RFC 2759 section 8.12: the old hash for who has the new one, 16 bytes."""
    return des_encrypt_block(new_hash[:7], old_hash[:8]) + des_encrypt_block(new_hash[7:14], old_hash[8:])


def master_session_key(password_hash: bytes, response: bytes) -> bytes:
    """The 64 bytes that go into the AUTH payloads as MSK.

    RFC 3079 names its two keys by direction. EAP fixes the order: first the key for data from the peer to the gateway
    (the gateway's receive key), then the other way, then zeros ([MS-CHAP] section 3.1.5.1; RFC 5216 section 2.3 has
    the same order for its halves).
    """
    master_key = sha1(md4(password_hash) + response + _MASTER_KEY_MAGIC)[:16]
    return _start_key(master_key, _PEER_TO_GATEWAY_MAGIC) + _start_key(master_key, _GATEWAY_TO_PEER_MAGIC) + bytes(32)


def _start_key(master_key: bytes, magic: bytes) -> bytes:
    return sha1(master_key + _PAD_1 + magic + _PAD_2)[:16]
