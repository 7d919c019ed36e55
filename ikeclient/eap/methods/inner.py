"""What can run inside of TTLS and PEAP: the profile's words for it, and the EAP methods they mean."""

from __future__ import annotations

from ikeclient.wire.registry import EapType

# With TTLS, `mschapv2` and `pap` are attributes of its own; `eap-mschapv2` is the EAP method.
INNER_EAP: dict[str, tuple[EapType, ...]] = {
    "eap-mschapv2": (EapType.MSCHAPV2,),
    "gtc": (EapType.GTC,),
    "md5": (EapType.MD5_CHALLENGE,),
    "tls": (EapType.TLS,),
}
PEAP_INNER: dict[str, tuple[EapType, ...]] = {**INNER_EAP, "mschapv2": (EapType.MSCHAPV2,)}
