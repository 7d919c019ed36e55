"""What is tried once more after AUTHENTICATION_FAILED, and how a gateway that accepted is asked the next time."""

from __future__ import annotations

from dataclasses import replace

from ikeclient.crypto.sign.schemes import Scheme
from ikeclient.ike.config import CertificateAuth, IkeConfig, PskAuth


def after_refusal(config: IkeConfig, signed: Scheme | None) -> IkeConfig | None:
    """Return what to try once more after a protected AUTHENTICATION_FAILED from a gateway that proved nothing, or None.

    `signed` is how we signed. First the refusal may be about RSASSA-PSS, then about the name we expect of the
    gateway (IDr): unnamed it shows who it is, and either can prove the name after all, or a person sees both names.
    With a PSK nothing can be learnt, and each try may count as a guess.
    """
    if isinstance(config.auth, CertificateAuth) and signed and (auth := config.auth.without_pss(signed)):
        return replace(config, auth=auth)
    if config.gateway.named and config.gateway.identity is not None and not isinstance(config.auth, PskAuth):
        return replace(config, gateway=replace(config.gateway, named=False))
    return None


def as_accepted(config: IkeConfig, before: IkeConfig) -> IkeConfig:
    """Return `config`, asking right away in the way that the gateway accepted when it was asked as `before` says.

    A try that is refused is not free: it is logged, counted, and may lock an account.
    """
    ours, theirs = config.auth, before.auth
    if (config.gateway.identity, config.local_identity) != (before.gateway.identity, before.local_identity):
        return config
    if (
        isinstance(ours, CertificateAuth)
        and isinstance(theirs, CertificateAuth)
        and ours.key.public_key == theirs.key.public_key
    ):
        ours = replace(ours, signature=ours.signature or theirs.signature)
    gateway = replace(config.gateway, named=config.gateway.named and before.gateway.named)
    return replace(config, auth=ours, gateway=gateway)
