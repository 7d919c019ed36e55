"""Who proves what, against strongSwan: mixed sides, EAP alone, two authentications, a post-quantum key, signatures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from lab.charon import Conf
from lab.gateway import PASSWORD, PSK, USER, Offer
from lab.machines import wait_for
from lab.network import GATEWAY_NAME, INSIDE_IPV4
from lab.pki import CLIENT_NAME
from lab.traffic import ping
from lab.world import Lab

PPK = "ppk-canary-of-thirty-two-bytes-and-more"
SECOND_NAME = "alice@second.example.org"
KEYED: Conf = {"ppk-lab": {"id": "ppk-alice", "secret": f'"{PPK}"'}}
Tables = Mapping[str, Mapping[str, object]]


def certified(lab: Lab, offer: Offer) -> Conf:
    """The gateway's side of a connection with its certificate."""
    return {"auth": "pubkey", "certs": lab.gateway.certificate(offer).certificate_file.name, "id": GATEWAY_NAME}


def signing(lab: Lab, offer: Offer) -> Conf:
    """The client's side of a connection with a certificate."""
    authority = lab.gateway.client_certificate(offer).authority_file
    return {"auth": "pubkey", "id": CLIENT_NAME, "cacerts": str(authority)}


def password(lab: Lab, value: str = PASSWORD) -> dict[str, object]:
    return {
        "method": "eap-mschapv2",
        "identity": SECOND_NAME,
        "user": USER,
        "password": {"file": str(lab.client.secret_file("second", value))},
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """An offer, what its connection has instead, and what the profile says beside what fits the offer."""

    offer: Offer
    local: Conf | None = None
    remote: Conf | None = None
    second: Conf | None = None
    profile: dict[str, dict[str, object]] = field(default_factory=dict)

    def connection(self, more: Conf | None = None) -> Offer:
        parts: dict[str, Any] = {"local": self.local, "remote": self.remote, "remote-2": self.second, **(more or {})}
        return replace(self.offer, connection={name: part for name, part in parts.items() if part is not None})


def psk_here(lab: Lab) -> Login:
    """We have a pre-shared key, the gateway a certificate."""
    offer = Offer(auth="certificate")
    gateway: dict[str, object] = {"auth": "certificate"}
    auth: dict[str, object] = {"method": "psk", "certificate": None, "key": None}
    auth["psk"] = {"file": str(lab.client.secret_file("psk", PSK))}
    remote: Conf = {"auth": "psk", "id": CLIENT_NAME}
    return Login(offer=offer, remote=remote, profile={"gateway": gateway, "auth": auth})


def psk_there(lab: Lab, secret: str = PSK) -> Login:
    """We have a certificate, the gateway a pre-shared key."""
    profile: dict[str, dict[str, object]] = {
        "gateway": {"auth": "psk", "ca": None},
        "auth": {"psk": {"file": str(lab.client.secret_file("psk", secret))}},
    }
    return Login(offer=Offer(auth="certificate"), local={"auth": "psk", "id": GATEWAY_NAME}, profile=profile)


def eap_alone(lab: Lab, secret: str = PASSWORD) -> Login:
    """Both sides are proven by EAP-MSCHAPv2."""
    profile: dict[str, dict[str, object]] = {
        "gateway": {"auth": "eap"},
        "auth": {"password": {"file": str(lab.client.secret_file("eap-password", secret))}},
    }
    return Login(offer=Offer(auth="eap-mschapv2"), local={"auth": "eap", "id": GATEWAY_NAME}, profile=profile)


def methods(side: Mapping[str, Any]) -> list[str]:
    return [each["method"] for each in side["auth"]]


def connected(lab: Lab, login: Login, more: Conf | None = None) -> dict[str, Any]:
    """Connect and send packets; the tunnel's status."""
    lab.connected(login.connection(more), **login.profile)
    assert ping(lab.network.client, INSIDE_IPV4, count=1) == 1
    return lab.status()


def refused(lab: Lab, login: Login, code: int, more: Conf | None = None) -> str:
    """Fail to connect with that exit code; what a person reads."""
    connection = lab.start(login.connection(more), **login.profile)
    assert connection.wait() == code, connection.stderr
    assert "Traceback" not in connection.stderr
    return connection.stderr


# Mixed sides


def test_a_key_here_and_a_certificate_there(lab: Lab) -> None:
    status = connected(lab, psk_here(lab))
    assert (methods(status["local"]), methods(status["gateway"])) == (["psk"], ["certificate"])
    assert "CN=gateway" in status["gateway"]["auth"][0]["subject"]


def test_a_certificate_here_and_a_key_there(lab: Lab) -> None:
    status = connected(lab, psk_there(lab))
    assert (methods(status["local"]), methods(status["gateway"])) == (["certificate"], ["psk"])


def test_with_mixed_sides_a_wrong_key_is_told_from_a_wrong_gateway(lab: Lab) -> None:
    login = psk_here(lab)
    lab.client.secret_file("psk", "wrong-wrong-wrong")
    assert "refused" in refused(lab, login, 4)
    assert "pre-shared key" in refused(lab, psk_there(lab, "wrong-wrong-wrong"), 7)


# EAP alone (RFC 5998)


def test_eap_alone_proves_both_sides(lab: Lab) -> None:
    status = connected(lab, eap_alone(lab))
    assert (methods(status["local"]), methods(status["gateway"])) == (["eap-mschapv2"], ["eap-mschapv2"])


def tls_alone(lab: Lab, authority: str = "") -> Login:
    """Both sides are proven by EAP-TLS, with the gateway's own plugin as the authentication server."""
    offer = Offer(auth="eap-tls")
    own = lab.gateway.certificate(offer)
    local: Conf = {"auth": "eap", "id": GATEWAY_NAME, "certs": own.certificate_file.name}
    profile: dict[str, dict[str, object]] = {
        "gateway": {"auth": "eap"},
        "auth": {"server_ca": [authority or str(own.authority_file)]},
    }
    return Login(offer=offer, local=local, profile=profile)


@pytest.mark.extended
def test_eap_tls_alone_proves_both_sides(lab: Lab) -> None:
    status = connected(lab, tls_alone(lab))
    assert (methods(status["local"]), methods(status["gateway"])) == (["eap-tls"], ["eap-tls"])


@pytest.mark.extended
def test_eap_tls_alone_with_the_certificate_of_an_unknown_authority(lab: Lab) -> None:
    """E13."""
    unknown = str(lab.gateway.pki.authority("unknown").certificate_file)
    assert "the authentication server did not prove who it is" in refused(lab, tls_alone(lab, unknown), 7)


def test_eap_alone_with_a_wrong_password(lab: Lab) -> None:
    assert "E=691" in refused(lab, eap_alone(lab, "wrong"), 4)


def test_eap_alone_is_not_what_a_profile_without_it_gets(lab: Lab) -> None:
    """E1: this gateway has no certificate, and the profile does not say that it need not."""
    login = eap_alone(lab)
    login.profile["gateway"] = {}
    refused(lab, login, 4)


# Two authentications (RFC 4739)


def certificate_then_password(lab: Lab, secret: str = PASSWORD) -> Login:
    offer = Offer(auth="certificate")
    second: Conf = {"auth": "eap-mschapv2", "id": SECOND_NAME, "eap_id": "%any"}
    return Login(offer=offer, second=second, profile={"second_auth": password(lab, secret)})


def password_then_certificate(lab: Lab) -> Login:
    offer = Offer(auth="eap-mschapv2")
    credential = lab.gateway.client_certificate(offer)
    profile: dict[str, dict[str, object]] = {
        "auth": {"identity": SECOND_NAME},
        "second_auth": {
            "method": "certificate",
            "identity": CLIENT_NAME,
            "certificate": str(credential.chain_file),
            "key": str(credential.key_file),
        },
    }
    return Login(offer=offer, second=signing(lab, offer), profile=profile)


def test_a_certificate_and_then_a_password(lab: Lab) -> None:
    status = connected(lab, certificate_then_password(lab))
    assert methods(status["local"]) == ["certificate", "eap-mschapv2"]


def test_a_password_and_then_a_certificate(lab: Lab) -> None:
    status = connected(lab, password_then_certificate(lab))
    assert methods(status["local"]) == ["eap-mschapv2", "certificate"]


def certificate_and_tls(lab: Lab, *, tls_first: bool) -> Login:
    """A certificate, and EAP-TLS with another one, in either order."""
    offer = Offer(auth="eap-tls" if tls_first else "certificate")
    credential = lab.gateway.client_certificate(offer)
    keys: dict[str, object] = {"certificate": str(credential.chain_file), "key": str(credential.key_file)}
    certificate: dict[str, object] = {"method": "certificate", "identity": CLIENT_NAME, **keys}
    tls: dict[str, object] = {"method": "eap-tls", "identity": SECOND_NAME, "user": CLIENT_NAME, **keys}
    first, then = (tls, certificate) if tls_first else (certificate, tls)
    side: Conf = {"auth": "eap-tls", "id": SECOND_NAME, "eap_id": "%any"}
    second = signing(lab, offer) if tls_first else side
    remote = side if tls_first else None
    return Login(offer=offer, remote=remote, second=second, profile={"auth": first, "second_auth": then})


@pytest.mark.extended
@pytest.mark.parametrize("tls_first", [True, False])
def test_a_certificate_and_eap_tls_in_either_order(lab: Lab, tls_first: bool) -> None:
    status = connected(lab, certificate_and_tls(lab, tls_first=tls_first))
    assert methods(status["local"]) == (["eap-tls", "certificate"] if tls_first else ["certificate", "eap-tls"])


def test_the_second_password_is_wrong(lab: Lab) -> None:
    assert "E=691" in refused(lab, certificate_then_password(lab, "wrong"), 4)


def test_a_gateway_that_takes_one_authentication_only(lab: Lab) -> None:
    login = certificate_then_password(lab)
    offer = replace(login.offer, settings={"multiple_authentication": False})
    assert "MULTIPLE_AUTH_SUPPORTED" in refused(lab, replace(login, offer=offer, second=None), 6)


# A post-quantum key (RFC 8784)


def keyed(lab: Lab, auth: str = "psk", *, secret: str = PPK, required: bool = True, known: bool = True) -> Login:
    """A tunnel with a PPK that the gateway knows, or not."""
    table: dict[str, object] = {"id": "ppk-alice", "required": required}
    table["secret"] = {"file": str(lab.client.secret_file("ppk", secret))}
    offer = Offer(auth=auth, secrets=KEYED if known else None)  # type: ignore[arg-type]
    return Login(offer=offer, profile={"ppk": table})


def both_have_replaced(lab: Lab, before: Mapping[str, Any]) -> bool:
    """Whether a Child SA was rekeyed: the gateway drops what comes on the new one until it has our answer."""
    [ours] = lab.status()["children"]
    theirs = [(child["spi-out"], child["spi-in"]) for child in lab.gateway.children() if child["state"] == "INSTALLED"]
    return ours["spi_in"] != before["spi_in"] and (ours["spi_in"], ours["spi_out"]) in theirs


@pytest.mark.parametrize("auth", ["psk", "eap-mschapv2"])
def test_a_post_quantum_key_is_in_the_keys(lab: Lab, auth: str) -> None:
    """Also after a rekey of both SAs: the gateway derives the same keys."""
    status = connected(lab, keyed(lab, auth), {"ppk_id": "ppk-alice", "ppk_required": True})
    assert status["ike"]["ppk"]
    lab.gateway.rekey(ike="rw")
    wait_for(lambda: lab.status()["ike"]["rekeys"] == 1, timeout=15, what="another IKE SA")
    [before] = status["children"]
    lab.gateway.rekey(child="net")
    wait_for(lambda: both_have_replaced(lab, before), timeout=15, what="another Child SA at both ends")
    assert ping(lab.network.client, INSIDE_IPV4) == 3


@pytest.mark.extended
@pytest.mark.parametrize("auth", ["psk", "certificate", "eap-mschapv2"])
@pytest.mark.parametrize("demanded", [True, False])
def test_a_post_quantum_key_that_either_side_could_do_without(lab: Lab, auth: str, demanded: bool) -> None:
    """Neither `required` here nor `ppk_required` there changes that it is used when both have it."""
    more: Conf = {"ppk_id": "ppk-alice", "ppk_required": demanded}
    assert connected(lab, keyed(lab, auth, required=not demanded), more)["ike"]["ppk"]


@pytest.mark.extended
def test_a_gateway_that_demands_a_post_quantum_key_gets_none(lab: Lab) -> None:
    """Without [ppk] in the profile there is no login."""
    login = keyed(lab)
    login.profile.clear()
    refused(lab, login, 4, {"ppk_id": "ppk-alice", "ppk_required": True})


def test_another_post_quantum_key_under_the_same_id(lab: Lab) -> None:
    assert "[ppk]" in refused(lab, keyed(lab, secret="another" * 6), 4, {"ppk_id": "ppk-alice", "ppk_required": True})


def test_a_post_quantum_key_that_the_gateway_does_not_have(lab: Lab) -> None:
    assert "USE_PPK" in refused(lab, keyed(lab, known=False), 6)
    assert not connected(lab, keyed(lab, known=False, required=False))["ike"]["ppk"]


# Signatures


def test_a_gateway_that_refuses_the_only_scheme_is_answered_with_the_key_to_set(lab: Lab) -> None:
    """E9: strongSwan demands PKCS#1 v1.5, and the profile signs with RSASSA-PSS only."""
    offer = Offer(auth="certificate", kind="rsa2048", client_scheme="ike:rsa-sha256")
    login = Login(offer=offer, profile={"auth": {"signature": ["rsa-pss-sha256"]}})
    assert 'auth.signature = ["rsa-pkcs1-sha256"]' in refused(lab, login, 4)
    status = connected(lab, Login(offer=offer, profile={"auth": {"signature": ["rsa-pkcs1-sha256"]}}))
    assert status["local"]["auth"][0]["signature"] == "RSA PKCS#1 v1.5 with SHA-256"
    assert status["local"]["auth"][0]["serial"]


def variants(every: Iterable[str], ordinary: str) -> list[Any]:
    """All of them, of which one stands for the others in an ordinary run."""
    return [each if each == ordinary else pytest.param(each, marks=pytest.mark.extended) for each in every]


DEMANDED: dict[str, tuple[str, str, str]] = {  # the profile's word: kind of key, strongSwan's word, what status says
    "rsa-pss-sha256": ("rsa2048", "rsa/pss-sha256", "RSA-PSS with SHA-256"),
    "rsa-pss-sha384": ("rsa3072", "rsa/pss-sha384", "RSA-PSS with SHA-384"),
    "rsa-pss-sha512": ("rsa2048", "rsa/pss-sha512", "RSA-PSS with SHA-512"),
    "rsa-pkcs1-sha256": ("rsa2048", "rsa-sha256", "RSA PKCS#1 v1.5 with SHA-256"),
    "rsa-pkcs1-sha384": ("rsa3072", "rsa-sha384", "RSA PKCS#1 v1.5 with SHA-384"),
    "rsa-pkcs1-sha512": ("rsa2048", "rsa-sha512", "RSA PKCS#1 v1.5 with SHA-512"),
    "ecdsa-sha256": ("ecdsa256", "ecdsa-sha256", "ECDSA with SHA-256"),
    "ecdsa-sha384": ("ecdsa384", "ecdsa-sha384", "ECDSA with SHA-384"),
    "ecdsa-sha512": ("ecdsa521", "ecdsa-sha512", "ECDSA with SHA-512"),
    "ed25519": ("ed25519", "ed25519", "Ed25519"),
    "ed448": ("ed448", "ed448", "Ed448"),
}


@pytest.mark.parametrize("scheme", variants(DEMANDED, "rsa-pss-sha384"))
def test_each_signature_that_a_gateway_can_demand_and_make(lab: Lab, scheme: str) -> None:
    """RFC 7427, RFC 8420: the gateway takes no other from us, and makes no other itself."""
    kind, word, told = DEMANDED[scheme]
    offer = Offer(auth="certificate", kind=kind, client_scheme=f"ike:{word}", gateway_scheme=f"ike:{word}")
    status = connected(lab, Login(offer=offer, profile={"auth": {"signature": [scheme]}}))
    assert [status[side]["auth"][0]["signature"] for side in ("local", "gateway")] == [told, told]


CLASSIC = {"rsa2048": "SHA-1", "ecdsa256": "SHA-256", "ecdsa384": "SHA-384", "ecdsa521": "SHA-512"}


@pytest.mark.parametrize("kind", variants(CLASSIC, "ecdsa521"))
def test_a_gateway_that_does_not_know_rfc_7427(lab: Lab, kind: str) -> None:
    """The methods 1 and 9 to 11 of RFC 7296 and RFC 4754 in both directions; the first has SHA-1, which is allowed."""
    offer = Offer(auth="certificate", kind=kind, settings={"signature_authentication": False})
    allowed: dict[str, dict[str, object]] = {"gateway": {"allow_sha1": True}} if kind == "rsa2048" else {}
    status = connected(lab, Login(offer=offer, profile=allowed))
    for side in ("local", "gateway"):
        assert CLASSIC[kind] in status[side]["auth"][0]["signature"]


@pytest.mark.extended
def test_sha1_is_not_used_unless_it_is_allowed(lab: Lab) -> None:
    """N26: what to set is said."""
    offer = Offer(auth="certificate", kind="rsa2048", settings={"signature_authentication": False})
    assert "allow_sha1" in refused(lab, Login(offer=offer), 4)
