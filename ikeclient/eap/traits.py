"""What the EAP methods achieve, as far as anything is decided by it."""

from __future__ import annotations

from ikeclient.wire.registry import EapType

# Methods that authenticate both sides and make keys: no others may prove a gateway alone (RFC 5998 section 3). EAP-SIM
# is not among them, since GSM itself gives away its keys of 64 bits. Of these MSCHAPv2 alone lets whoever poses as the
# gateway try passwords afterwards; a profile is warned of that.
MUTUAL = frozenset({EapType.MSCHAPV2, EapType.TLS, EapType.TTLS, EapType.PEAP, EapType.AKA, EapType.AKA_PRIME})
