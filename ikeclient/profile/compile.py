"""From a validated profile to what the protocol and the machine are told, with every credential in hand.

This is the last step before the first packet and the only one that reads secrets. Whatever is missing, unreadable,
contradictory or beyond this machine's cryptography is an error here, not half way through a handshake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path
from typing import Literal, cast

from ikeclient.crypto.algorithms.transforms import AlgorithmProposal
from ikeclient.crypto.pki.bundles import CertificateForm
from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.pki.identity import identity_text
from ikeclient.crypto.pki.revocation_status import RevocationPolicy
from ikeclient.crypto.sign.file_key import FileKey
from ikeclient.crypto.sign.remote_key import RemoteKey
from ikeclient.crypto.sign.schemes import SCHEME_NAMES, Scheme
from ikeclient.eap.credentials import TlsCredentials
from ikeclient.errors import ProfileError
from ikeclient.ike.config import (
    CertificateAuth,
    ChildConfig,
    EapAuth,
    EapOnly,
    ExpectedGateway,
    GatewayAuth,
    IkeConfig,
    OwnAuth,
    Ppk,
    PskAuth,
    SecondAuth,
    Timing,
    TrustedCertificate,
)
from ikeclient.lazy_dataclass import dataclass
from ikeclient.profile.compiled import CompiledProfile, NetworkSettings, SessionSettings, host_of
from ikeclient.profile.load.author import Author, Key
from ikeclient.profile.load.trust import program
from ikeclient.profile.model import proposals
from ikeclient.profile.model.capability import usable
from ikeclient.profile.model.identities import identity_of
from ikeclient.profile.model.methods import (
    CARDS,
    METHODS,
    SUPPORTED,
    has_card,
    is_eap,
    mutual_answers,
    needs_password,
    uses_card,
)
from ikeclient.profile.model.schema import Auth, Gateway, Profile
from ikeclient.profile.model.values import IPNetwork, shown
from ikeclient.profile.secrets.credentials import (
    account_in,
    certificate_identity,
    load_certificate,
    load_password,
    load_ppk,
    load_psk,
    load_server_trust,
    load_sim,
    load_trust,
)
from ikeclient.profile.secrets.remote_keys import find_card
from ikeclient.profile.secrets.secrets import Ask, Secret
from ikeclient.profile.secrets.sources import SecretNotRead, Sources
from ikeclient.wire.identity import Identity
from ikeclient.wire.registry import EapType
from ikeclient.wire.selector import TrafficSelector

_ANYWHERE: dict[str, IPNetwork] = {"ipv4": ip_network("0.0.0.0/0"), "ipv6": ip_network("::/0")}
_STDIN = "standard input"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Authentications:
    """Who we are, and what both sides prove themselves with."""

    identity: Identity
    own: OwnAuth
    gateway: GatewayAuth
    second: SecondAuth | None
    ppk: Ppk | None


def gateway_method(profile: Profile) -> Literal["psk", "certificate", "eap"]:
    """How the gateway has to prove itself: as the profile says, or as goes with our own method."""
    return profile.gateway.auth or ("psk" if profile.auth.method == "psk" else "certificate")


def compile_profile(
    profile: Profile,
    base_dir: Path,
    ask: Ask | None,
    *,
    name: str = "",
    stdin_password: str | None = None,
    kept: dict[str, Secret] | None = None,
    author: Author | None = None,
    files_only: bool = False,
    attended: bool = False,
    given: Mapping[Key, Secret] | None = None,
) -> CompiledProfile:
    """Read every credential that `profile` points at and make the configuration.

    `base_dir` is where relative paths start. `ask` shows a prompt and returns what the person typed; None where there
    is no terminal. `stdin_password` replaces the one secret that the method needs (PSK, password or passphrase). `kept`
    holds on to secrets that can be had only once; with the same dictionary the profile can be compiled again later.
    `author` is the user with whose rights all of it is read, None for our own. With `files_only` nobody is asked and
    nothing is run: it raises SecretNotRead for the first secret that is in no file. With `attended` a person answers
    during the login as well, so that a question of the gateway's need not be answered before. `given` are secrets by
    their keys, which take the place of their sources.
    Raises ProfileError, or UsageError where a secret would have to be asked for and cannot.
    """
    kept = {} if kept is None else kept
    if stdin_password is not None:
        kept[_STDIN] = Secret(stdin_password.encode("utf-8", "surrogateescape"))
    sources = Sources(
        base_dir=base_dir,
        ask=ask,
        stdin_password=kept.get(_STDIN),
        kept=kept,
        author=author,
        files_only=files_only,
        attended=attended,
        given=given or {},
    )
    del stdin_password  # a traceback that shows variables must not find it here
    session = _session(profile, base_dir, author)  # before anybody is asked for a password
    network = network_settings(profile)
    selectors = _selectors(network, sources.warnings)
    ike_proposals, esp_proposals = _proposals(profile)
    gateway_identity = _gateway_identity(profile)
    _warn_of_unused(profile, sources.warnings)
    try:
        proven = _authentications(profile, sources)
        session = replace(session, card_reader=_card_reader(profile, sources))
    except SecretNotRead as unread:
        raise unread.after(sources.warnings) from None
    if gateway_method(profile) == "psk":
        what = "method psk" if profile.gateway.auth is None else "gateway.auth psk"
        unused = [key for key in ("ca", "certificate_forms") if getattr(profile.gateway, key)]
        sources.warnings.extend(f"key 'gateway.{key}' is not used by {what}" for key in unused)
    return CompiledProfile(
        name=name,
        base_dir=base_dir,
        ike=IkeConfig(
            local_identity=proven.identity,
            auth=proven.own,
            gateway=ExpectedGateway(
                identity=gateway_identity,
                auth=proven.gateway,
                certificate_forms=frozenset(map(CertificateForm, profile.gateway.certificate_forms)),
            ),
            second_auth=proven.second,
            ppk=proven.ppk,
            ike_proposals=ike_proposals,
            child=ChildConfig(
                esp_proposals=esp_proposals,
                request=network.request,
                remote_selectors=selectors,
                esn=proposals.offers_esn(profile.crypto.esp),
            ),
            timing=Timing(
                liveness=float(profile.session.liveness),
                rekey_ike=float(profile.session.rekey_ike),
                rekey_child=float(profile.session.rekey_child),
            ),
            mobike=profile.session.mobike,
            allow_sha1=profile.gateway.allow_sha1,
            revocation=RevocationPolicy(profile.gateway.revocation),
        ),
        gateways=profile.gateway.address,
        port=profile.gateway.port,
        network=network,
        session=session,
        warnings=tuple(sources.warnings),
        identity_is_address=profile.gateway.identity is None,
        typed=tuple(sources.typed),
    )


def _proposals(profile: Profile) -> tuple[tuple[AlgorithmProposal, ...], ...]:
    crypto = profile.crypto
    ike = [proposals.parse_ike(text) for text in crypto.ike]
    esp = [proposals.parse_esp(text) for text in crypto.esp]
    return (
        usable(ike, named="ike" in crypto.model_fields_set, key="crypto.ike"),
        usable(esp, named="esp" in crypto.model_fields_set, key="crypto.esp"),
    )


def _gateway_identity(profile: Profile) -> Identity | None:
    gateway = profile.gateway
    if gateway.identity != "%any":
        return identity_of(gateway.identity or host_of(gateway.address[0]), "gateway.identity")
    if gateway_method(profile) != "psk":
        reason = "a certificate proves a name, so the profile must say which one: otherwise any gateway would do"
        raise ProfileError("key 'gateway.identity' can be %any with method psk only", reason=reason)
    return None


def _gateway_auth(profile: Profile, sources: Sources) -> GatewayAuth:
    """How the gateway has to prove itself. Raises ProfileError for ways that do not go with ours."""
    auth, how = profile.auth, gateway_method(profile)
    match how:
        case "psk" if is_eap(auth.method):
            raise ProfileError(
                "key 'gateway.auth' cannot be psk with an EAP method",
                reason="everybody with that key could pose as the gateway and ask for passwords (RFC 7296, 2.16)",
                hint='set gateway.auth = "certificate"',
            )
        case "psk":
            return PskAuth(psk=load_psk(auth, sources))
        case "eap" if not mutual_answers(auth.method):
            able = [name for name in SUPPORTED if mutual_answers(name)]
            raise ProfileError(
                f"key 'gateway.auth' cannot be eap with method {auth.method}",
                reason="it does not prove the gateway, or makes no keys (RFC 5998 section 4)",
                hint=f"methods that do are {', '.join(able)}",
            )
        case "eap":
            if EapType.MSCHAPV2 in mutual_answers(auth.method) and needs_password(auth):
                sources.warnings.append(
                    "gateway.auth eap: only the password proves the gateway, and whoever poses as it learns enough to "
                    "try passwords on; make it long and random"
                )
            return EapOnly(trust=load_trust(profile.gateway, sources))
        case _:
            return TrustedCertificate(trust=load_trust(profile.gateway, sources))


def _own_auth(auth: Auth, theirs: GatewayAuth, gateway: Gateway, sources: Sources) -> tuple[Identity, OwnAuth]:
    """Who we are and how we prove it, in one of the profile's authentications."""
    match auth.method:
        case "psk":
            return _named_identity(auth), PskAuth(psk=load_psk(auth, sources))
        case "certificate":
            chain, key = load_certificate(auth, sources)
            named = f"{auth.SECTION}.identity"
            own = identity_of(auth.identity, named) if auth.identity else certificate_identity(chain[0])
            if not chain[0].matches(own.type, own.data):
                who = identity_text(own.type, own.data)
                sources.warnings.append(f"our certificate does not hold the identity {who}; the gateway may refuse it")
            return own, CertificateAuth(chain=chain, key=key, signature=_signature_schemes(auth, key))
        case method if is_eap(method) and method in SUPPORTED:
            return _eap(auth, theirs, gateway, sources)
    raise unsupported(auth.method)


def _eap(auth: Auth, theirs: GatewayAuth, gateway: Gateway, sources: Sources) -> tuple[Identity, EapAuth]:
    traits = METHODS[auth.method]
    alone = isinstance(theirs, EapOnly) and auth.SECTION == "auth"
    answers = mutual_answers(auth.method) if alone else traits.answers
    methods = tuple(method for method in answers if _possible(auth, method))
    if not methods:
        inner = shown(auth.inner)
        raise ProfileError(
            f"key '{auth.SECTION}.inner' cannot be {inner} with method {auth.method}", hint="see docs/profile.md"
        )
    tls: TlsCredentials | None = None
    if traits.over_tls:
        gateway_trust = load_trust(gateway, sources) if isinstance(theirs, PskAuth) else theirs.trust
        shows_certificate = EapType.TLS in methods or auth.inner == "tls"
        if shows_certificate and auth.key is not None and auth.key.file is None:
            raise ProfileError(
                f"key '{auth.SECTION}.key' must be a file with method {auth.method}",
                reason="the TLS library inside EAP signs only with keys that it holds itself",
                hint="keys on tokens and with ssh-agent go with method certificate",
            )
        chain, key = load_certificate(auth, sources) if shows_certificate else ((), None)
        name = identity_of(auth.server_name, f"{auth.SECTION}.server_name") if auth.server_name else None
        tls = TlsCredentials(
            trust=load_server_trust(auth, gateway_trust, sources),
            server_name=(name.type, name.data) if name else None,
            chain=chain,
            key=key if isinstance(key, FileKey) else None,
            inner=auth.inner,
            anonymous_identity=auth.anonymous_identity,
            check_revocation=gateway.revocation != "off",
        )
    sim = load_sim(auth, sources, private=alone) if has_card(auth) or uses_card(auth.method) else None
    own, account = _eap_identities(auth, tls.chain if tls else ())
    wants_password = needs_password(auth)
    if not wants_password:
        certified = (EapType.TLS, EapType.PEAP, EapType.TTLS) if auth.inner == "tls" else (EapType.TLS,)
        methods = tuple(method for method in methods if method in (*CARDS, *certified))
    password = load_password(auth, account, sources) if wants_password else None
    return own, EapAuth(identity=account, methods=methods, password=password, tls=tls, sim=sim)


def _possible(auth: Auth, method: EapType) -> bool:
    """Whether the profile has what a method takes, apart from a password."""
    match method:
        case EapType.TLS:
            return auth.method != "eap" or auth.certificate is not None
        case EapType.AKA_PRIME | EapType.AKA | EapType.SIM:
            return auth.method != "eap" or has_card(auth)
        case EapType.PEAP:
            return auth.inner not in ("pap", "eap-mschapv2")
        case _:
            return True


def _takes_password(auth: Auth) -> bool:
    """Whether its secret is one that people type."""
    return auth.method == "psk" or (is_eap(auth.method) and needs_password(auth))


def _authentications(profile: Profile, sources: Sources) -> _Authentications:
    """Read what both sides prove themselves with.

    What comes on standard input is for the second authentication if that takes a password, else for the first one.
    """
    second = profile.second_auth
    typed_later = second is not None and _takes_password(second)
    first_sources = replace(sources, stdin_password=None) if typed_later else sources
    theirs = _gateway_auth(profile, first_sources)
    if isinstance(theirs, PskAuth) and profile.auth.method == "psk":  # one key for both, which is asked for once
        identity, auth = _named_identity(profile.auth), cast("OwnAuth", theirs)
    else:
        identity, auth = _own_auth(profile.auth, theirs, profile.gateway, first_sources)
    again: SecondAuth | None = None
    if second is not None:
        rest = sources if typed_later else replace(sources, stdin_password=None)
        other, how = _own_auth(second, theirs, profile.gateway, rest)
        again = SecondAuth(identity=other, auth=how)
    ppk = load_ppk(profile.ppk, sources) if profile.ppk is not None else None
    return _Authentications(identity=identity, own=auth, gateway=theirs, second=again, ppk=ppk)


def unsupported(method: str) -> ProfileError:
    """The error for a method that profiles can name and `connect` cannot run yet."""
    return ProfileError(
        f"the authentication method {method} is not supported yet",
        hint=f"supported are {', '.join(SUPPORTED)}",
    )


def _signature_schemes(auth: Auth, key: FileKey | RemoteKey) -> tuple[Scheme, ...]:
    """The schemes of `auth.signature` that our key can make; empty if the profile does not limit them."""
    if auth.signature is None:
        return ()
    found = tuple(scheme for name in auth.signature if (scheme := SCHEME_NAMES[name]).family in key.families)
    if not found:
        possible = [name for name, scheme in SCHEME_NAMES.items() if scheme.family in key.families]
        raise ProfileError(
            f"key '{auth.SECTION}.signature' names no scheme that our key can sign with",
            reason=f"the private key is {key.public_key.kind}"
            + (f" of {key.place}" if isinstance(key, RemoteKey) else ""),
            hint=f"such a key makes {', '.join(possible)}",
        )
    return found


def _named_identity(auth: Auth) -> Identity:
    if auth.identity is None:
        raise ProfileError(
            f"key '{auth.SECTION}.identity' is missing",
            reason=f"method {auth.method} needs it: it is how the gateway knows us",
            hint='for example: identity = "alice@example.com"',
        )
    return identity_of(auth.identity, f"{auth.SECTION}.identity")


def _eap_identities(auth: Auth, chain: Sequence[Certificate]) -> tuple[Identity, str]:
    """IDi and the EAP identity; each stands in for the other where only one is given, a certificate for both."""
    account, own = auth.user or auth.identity, auth.identity or auth.user
    if account is None and chain:
        return certificate_identity(chain[0]), account_in(chain[0])
    if account is None or own is None:
        hint = 'for example: identity = "alice@example.com"'
        raise ProfileError(
            f"key '{auth.SECTION}.identity' is missing", reason=f"method {auth.method} needs it", hint=hint
        )
    return identity_of(own, f"{auth.SECTION}.{'identity' if auth.identity else 'user'}"), account


def _warn_of_unused(profile: Profile, warnings: list[str]) -> None:
    for auth in (profile.auth, profile.second_auth):
        if auth is None:
            continue
        used = METHODS[auth.method].keys | {"method", "identity"}
        if auth is profile.auth and gateway_method(profile) == "psk":
            used |= {"psk"}
        unused = sorted(auth.model_fields_set - used)
        warnings += [f"key '{auth.SECTION}.{name}' is not used by method {auth.method}" for name in unused]


def network_settings(profile: Profile) -> NetworkSettings:
    """What changes on the machine, as the profile says."""
    network = profile.network
    card = any(has_card(auth) for auth in (profile.auth, profile.second_auth) if auth is not None)
    operators: frozenset[str] = frozenset({"p-cscf"}) if card and network.request else frozenset()
    return NetworkSettings(
        request=operators.union(network.request),
        routes=network.routes,
        exclude=tuple(item for item in network.exclude if item != "lan"),
        exclude_lan="lan" in network.exclude,
        dns=network.dns,
        dns_servers=network.dns_servers,
        dns_domains=network.dns_domains,
        mtu=network.mtu,
        interface=network.interface,
    )


def _selectors(network: NetworkSettings, warnings: list[str]) -> tuple[TrafficSelector, ...]:
    """What to ask for as TSr: the listed networks, or everything, of the families that addresses are asked for."""
    families = [family for family in _ANYWHERE if family in network.request] or list(_ANYWHERE)
    wanted = [_ANYWHERE[family] for family in families] if isinstance(network.routes, str) else list(network.routes)
    possible = [item for item in wanted if f"ipv{item.version}" in families]
    warnings.extend(
        f"the route {item} is left out: network.request does not ask for IPv{item.version}"
        for item in wanted
        if item not in possible
    )
    if not possible:
        raise ProfileError("no network of 'network.routes' is of a family that 'network.request' asks for")
    return tuple(TrafficSelector.from_network(item) for item in possible)


def _card_command(profile: Profile, base_dir: Path, author: Author | None) -> tuple[str, ...]:
    """The command that answers for the card, () if there is none."""
    for auth in (profile.auth, profile.second_auth):
        if auth is not None and auth.sim is not None and auth.sim.command is not None and has_card(auth):
            return _checked_commands([auth.sim.command], base_dir, f"{auth.SECTION}.sim.command", author)[0]
    return ()


def _card_reader(profile: Profile, sources: Sources) -> bytes | None:
    """Where the card is, if it is in a reader. Raises ProfileError if it is not there."""
    for auth in (profile.auth, profile.second_auth):
        if auth is not None and auth.sim is not None and auth.sim.reader is not None and has_card(auth):
            return find_card(auth, auth.sim, sources)
    return None


def _session(profile: Profile, base_dir: Path, author: Author | None) -> SessionSettings:
    session = profile.session
    return SessionSettings(
        retry=None if session.retry == "forever" else session.retry,
        refusals=session.refusals,
        offload=session.offload == "auto",
        up=_checked_commands(session.up, base_dir, "session.up", author),
        down=_checked_commands(session.down, base_dir, "session.down", author),
        card=_card_command(profile, base_dir, author),
        runs_as=author,
        kill_switch=session.kill_switch,
    )


def _checked_commands(
    commands: Sequence[Sequence[str]], base_dir: Path, key: str, author: Author | None
) -> tuple[tuple[str, ...], ...]:
    """The commands with their programs as absolute paths, which nobody but root and the user may change."""
    return tuple((program(words[0], base_dir, f"key '{key}' names", author), *words[1:]) for words in commands)
