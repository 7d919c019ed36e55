"""The gateway of the lab and a strongSwan client for comparison, both made from the same few presets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from lab import half_open
from lab.charon import Charon, Conf, Value
from lab.machines import Machine
from lab.network import GATEWAY_IPV4, GATEWAY_NAME, INSIDE_NETWORKS
from lab.pki import CLIENT_NAME, Credential, Pki

PSK = "psk-canary-4f1d93b7c2"
USER = "alice"
PASSWORD = "pw-canary-Zq7!x9"
POOL_IPV4, POOL_IPV6 = "10.88.0.0/24", "fd88::/112"
IKE_PROPOSALS = "aes256gcm16-prfsha384-ecp384,aes128gcm16-prfsha256-x25519,aes256-sha256-modp2048"
ESP_PROPOSALS = "aes128gcm16,aes256gcm16,chacha20poly1305,aes256-sha256"
_COOKIE_SETTINGS: Conf = {"cookie_threshold": 1, "half_open_timeout": 600}
Auth: TypeAlias = Literal["psk", "certificate", "eap-mschapv2", "eap-md5", "eap-gtc", "eap-tls", "eap-ttls"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """How a gateway serves: the vocabulary of swanctl.conf, with defaults that make a complete tunnel.

    `kind` is the kind of both certificates (a key of `pki.KINDS`); `gateway_certificate` and `client_certificate`
    replace them. `gateway_scheme` and `client_scheme` name signatures in strongSwan's words ("ike:rsa/pss-sha256").
    """

    auth: Auth = "psk"
    kind: str = "ecdsa256"
    gateway_certificate: Credential | None = None
    client_certificate: Credential | None = None
    gateway_scheme: str = "pubkey"
    client_scheme: str = "pubkey"
    gateway_identity: str = GATEWAY_NAME
    client_identity: str = CLIENT_NAME
    proposals: str = IKE_PROPOSALS
    esp_proposals: str = ESP_PROPOSALS
    local_ts: Sequence[str] = INSIDE_NETWORKS
    pools: Sequence[str] = ("p4", "p6")
    mobike: bool = True
    encap: bool = False  # kernel-libipsec asks for encapsulation by itself
    fragmentation: str = "yes"  # yes | accept | force | no
    unique: str = "replace"
    dns: Sequence[str] = ()
    domains: Sequence[str] = ()
    attributes: Conf | None = None  # more for the IPv4 pool to tell: subnet, split_include, split_exclude, ...
    pool_ipv4: str = POOL_IPV4
    cookies: bool = False  # answer every first IKE_SA_INIT with COOKIE
    connection: Conf | None = None  # more settings of the connection, of its child, of charon
    child: Conf | None = None
    settings: Conf | None = None
    secrets: Conf | None = None  # more of them
    authorities: Conf | None = None


# Where the client's outer address may lie inside the tunnel: else the gateway's route there swallows its own messages.
MARKED: Conf = {
    "plugins": {
        "kernel-libipsec": {"allow_peer_ts": True},
        "kernel-netlink": {"fwmark": "!0x42"},
        "socket-default": {"fwmark": "0x42"},
    }
}


class Gateway(Charon):
    """strongSwan as the gateway; `serve` makes it answer."""

    def __init__(self, machine: Machine, directory: Path, pki: Pki, listen: Sequence[str]) -> None:
        super().__init__(machine, directory)
        self.pki = pki
        self.listen = tuple(listen)
        self.offer = Offer()

    def certificate(self, offer: Offer) -> Credential:
        """The certificate this gateway shows under that offer."""
        return offer.gateway_certificate or self.pki.credential("gateway", offer.kind)

    def client_certificate(self, offer: Offer) -> Credential:
        """The certificate a client needs for that offer."""
        return offer.client_certificate or self.pki.credential("client", offer.kind)

    def serve(self, offer: Offer | None = None) -> Offer:
        """Answer as `offer` says; a running daemon is reconfigured, one with other daemon settings is replaced."""
        self.offer = offer = offer or Offer()
        settings = {**(_COOKIE_SETTINGS if offer.cookies else {}), **(offer.settings or {})}
        if self.pid and settings != self._settings:
            self.kill()
        if not self.pid:
            self.start(settings)
        self.load(gateway_conf(self, offer), gateway_credentials(self, offer))
        if offer.cookies:
            self.machine.run(sys.executable, half_open.__file__)
        return offer


def gateway_credentials(gateway: Gateway, offer: Offer) -> list[Credential]:
    """The gateway's certificate, where the way of authentication needs one."""
    return [] if offer.auth == "psk" else [gateway.certificate(offer)]


def gateway_conf(gateway: Gateway, offer: Offer) -> Conf:
    """The swanctl.conf of a gateway with one connection `rw` and its child `net`."""
    connection: dict[str, Value] = {
        "version": 2,
        "local_addrs": gateway.listen,
        "pools": offer.pools,
        "mobike": offer.mobike,
        "encap": offer.encap,
        "fragmentation": offer.fragmentation,
        "unique": offer.unique,
        "proposals": offer.proposals,
        "local": _local(gateway, offer),
        "remote": _remote(gateway, offer),
        "children": {
            "net": {"local_ts": offer.local_ts, "esp_proposals": offer.esp_proposals, **(offer.child or {})},
        },
        **(offer.connection or {}),
    }
    extra: dict[str, Value] = {}
    if offer.dns:
        extra["dns"] = offer.dns
    if offer.domains:
        extra["25"] = offer.domains  # INTERNAL_DNS_DOMAIN has no name in swanctl.conf
    extra |= offer.attributes or {}
    pools: Conf = {"p4": {"addrs": offer.pool_ipv4, **extra}, "p6": {"addrs": POOL_IPV6}}
    connections: dict[str, Value] = {"rw": connection}
    if offer.cookies:
        local: Conf = {
            "local_addrs": half_open.ADDRESS,
            "remote_addrs": half_open.ADDRESS,
            "proposals": half_open.PROPOSAL,
        }
        connections["half-open"] = {**local, "local": {"auth": "psk"}, "remote": {"auth": "psk"}}
    authorities: Conf = {"authorities": offer.authorities} if offer.authorities else {}
    return {"connections": connections, "pools": pools, "secrets": _secrets(offer), **authorities}


def _local(gateway: Gateway, offer: Offer) -> Conf:
    if offer.auth == "psk":
        return {"auth": "psk", "id": offer.gateway_identity}
    certificate = gateway.certificate(offer).certificate_file.name
    return {"auth": offer.gateway_scheme, "certs": certificate, "id": offer.gateway_identity}


def _remote(gateway: Gateway, offer: Offer) -> Conf:
    if offer.auth == "psk":
        return {"auth": "psk", "id": offer.client_identity}
    if offer.auth == "certificate":
        authority = gateway.client_certificate(offer).authority_file
        return {"auth": offer.client_scheme, "id": offer.client_identity, "cacerts": str(authority)}
    return {"auth": offer.auth, "eap_id": "%any"}


def _secrets(offer: Offer) -> Conf:
    return {
        "ike-lab": {"id-gateway": offer.gateway_identity, "id-client": offer.client_identity, "secret": f'"{PSK}"'},
        "eap-alice": {"id": USER, "secret": f'"{PASSWORD}"'},
        **(offer.secrets or {}),
    }


class StrongSwanClient(Charon):
    """strongSwan as the client of a `Gateway`: the yardstick for everything that ikeclient shall do."""

    def connect(
        self,
        gateway: Gateway,
        *,
        address: str = GATEWAY_IPV4,
        settings: Conf | None = None,
        remote_ts: Iterable[str] = INSIDE_NETWORKS,
        **connection: Value,
    ) -> None:
        """Set up the tunnel that the gateway's offer allows; `connection` overrides settings of swanctl.conf."""
        offer = gateway.offer
        if not self.pid:
            self.start(settings)
        conf: dict[str, Value] = {
            "version": 2,
            "remote_addrs": address,
            "vips": "0.0.0.0,::",
            "mobike": offer.mobike,
            "fragmentation": offer.fragmentation,
            "proposals": offer.proposals,
            "local": self._local(gateway, offer),
            "remote": self._remote(gateway, offer),
            "children": {"net": {"remote_ts": remote_ts, "esp_proposals": offer.esp_proposals}},
            **connection,
        }
        self.load({"connections": {"rw": conf}, "secrets": _secrets(offer)}, self._credentials(gateway, offer))
        if offer.auth != "psk":
            self._trust(gateway.certificate(offer).authority_file)
        self.initiate("net")

    def _trust(self, authority: Path) -> None:
        (self.directory / "x509ca" / authority.name).write_bytes(authority.read_bytes())
        self.swanctl("--load-creds", "--file", f"{self.directory}/swanctl.conf")

    @staticmethod
    def _credentials(gateway: Gateway, offer: Offer) -> list[Credential]:
        needed = offer.auth in ("certificate", "eap-tls")
        return [gateway.client_certificate(offer)] if needed else []

    @staticmethod
    def _local(gateway: Gateway, offer: Offer) -> Conf:
        if offer.auth == "psk":
            return {"auth": "psk", "id": offer.client_identity}
        if offer.auth == "certificate":
            certificate = gateway.client_certificate(offer).certificate_file.name
            return {"auth": offer.client_scheme, "certs": certificate, "id": offer.client_identity}
        eap_identity = offer.client_identity if offer.auth == "eap-tls" else USER
        return {"auth": "eap", "id": offer.client_identity, "eap_id": eap_identity}

    @staticmethod
    def _remote(gateway: Gateway, offer: Offer) -> Conf:
        scheme = "psk" if offer.auth == "psk" else offer.gateway_scheme
        return {"auth": scheme, "id": offer.gateway_identity}
