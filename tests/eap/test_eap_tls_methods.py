"""EAP-TLS, TTLS and PEAP with servers that are not what they should be; the honest ones are in the lab."""

from __future__ import annotations

import datetime
from collections.abc import Callable

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509 import ocsp
from hypothesis import given
from hypothesis import strategies as st
from tls_server import CLIENT, NOW, SERVER, Issued, Server, credentials, issue

from ikeclient.crypto.pki.revocation_status import RevocationState
from ikeclient.eap.credentials import TlsCredentials
from ikeclient.eap.fragments import MAX_FRAGMENTS, MAX_MESSAGE, Fragments
from ikeclient.eap.method import NeedCredential
from ikeclient.eap.methods import avp
from ikeclient.eap.methods.avp import Avp
from ikeclient.eap.methods.inner import PEAP_INNER
from ikeclient.eap.methods.peap import CRYPTO_BINDING, FAILURE, RESULT, SUCCESS, parse_tlvs, tlv
from ikeclient.eap.peer import EapPeer, outer_identity
from ikeclient.errors import AuthenticationFailed, GatewayNotAuthenticated, NegotiationRefused
from ikeclient.profile.model.methods import INNER
from ikeclient.wire.registry import EapType

USER, PASSWORD = "alice-canary", "password-canary"
IDENTITY = bytes([1, 1, 0, 5, 1])
EAP_SUCCESS, EAP_FAILURE = bytes([3, 9, 0, 4]), bytes([4, 9, 0, 4])
LOGINS = [
    (EapType.TLS, None),
    *((EapType.TTLS, inner) for inner in ("pap", "mschapv2", "eap-mschapv2", "gtc", "md5", "tls")),
    *((EapType.PEAP, inner) for inner in ("mschapv2", "gtc", "md5", "tls")),
]
VERSIONS = pytest.mark.parametrize("tls13", [True, False], ids=["TLS 1.3", "TLS 1.2"])


def entropy(count: int) -> bytes:
    return bytes(n & 0xFF for n in range(count))


def peer(
    *methods: EapType, tls: TlsCredentials, now: datetime.datetime = NOW, password: str | None = PASSWORD
) -> EapPeer:
    return EapPeer(USER, methods, password, entropy, tls=tls, now=lambda: now)


def run(eap: EapPeer, server: Server, *, until: Callable[[], bool] = lambda: False) -> bytes:
    """Let both talk until the server has nothing to say inside of TLS, or `until`; returns its last request."""
    request = server.start()
    for _ in range(60):
        response = eap.respond(request)
        assert isinstance(response, bytes)
        request = server.take(response)
        if until() or server.silent:
            break
    return request


def say(eap: EapPeer, server: Server, inside: bytes) -> bytes | NeedCredential | None:
    answer = eap.respond(server.send(inside))
    while server.in_pieces:
        assert isinstance(answer, bytes)
        answer = eap.respond(server.take(answer))
    return answer


IMPOSTORS: dict[str, tuple[Callable[[], Issued], datetime.datetime, str]] = {
    "unknown authority": (lambda: issue(SERVER, "other"), NOW, "server_ca"),
    "self-signed": (lambda: issue(SERVER), NOW, "server_ca"),
    "another name": (lambda: issue("www.example.org", "ca"), NOW, "server_name"),
    "expired by our clock": (lambda: issue(SERVER, "ca"), NOW + datetime.timedelta(days=400), "server_ca"),
    "a client's": (lambda: issue(CLIENT, "ca"), NOW, "server_name"),
}


OUTER = [
    ((EapType.TTLS,), None, "alice@example.org", "anonymous@example.org"),
    ((EapType.PEAP,), None, "alice", "anonymous"),
    ((EapType.PEAP, EapType.TTLS), None, r"EXAMPLE\alice", "anonymous"),
    ((EapType.PEAP,), None, "alice@", "anonymous"),
    ((EapType.PEAP,), "somebody", "alice@example.org", "somebody"),
    ((EapType.TLS,), None, "alice@example.org", "alice@example.org"),
    ((EapType.PEAP, EapType.MSCHAPV2), None, "alice@example.org", "alice@example.org"),
    ((EapType.PEAP, EapType.MSCHAPV2), "anonymous@example.org", "alice", "anonymous@example.org"),
]


@pytest.mark.parametrize(("methods", "anonymous", "account", "said"), OUTER)
def test_what_is_said_to_an_unproven_server(
    methods: tuple[EapType, ...], anonymous: str | None, account: str, said: str
) -> None:
    """E2: nothing that identifies the account, unless a method that shows it may follow."""
    assert outer_identity(account, methods, credentials(anonymous_identity=anonymous)) == said


@VERSIONS
@pytest.mark.parametrize("impostor", IMPOSTORS)
@pytest.mark.parametrize(("method", "inner"), LOGINS)
def test_an_unproven_server_hears_nothing_of_the_account(
    method: EapType, inner: str | None, impostor: str, tls13: bool
) -> None:
    """E13, E2: neither name, password nor certificate, with every method; CVE-2023-26463."""
    shown, now, hint = IMPOSTORS[impostor]
    server = Server(method, shown(), tls13=tls13, wants_certificate=True)
    tls = credentials(certificate=method == EapType.TLS or inner == "tls", inner=inner)
    eap = peer(method, tls=tls, now=now)
    identity = eap.respond(IDENTITY)
    assert identity is not None
    assert not isinstance(identity, NeedCredential)
    with pytest.raises(GatewayNotAuthenticated, match="authentication server") as refused:
        run(eap, server)
    assert hint in (refused.value.hint or "")
    heard = identity + bytes(server.heard)
    assert b"anonymous@example.org" in heard
    own = issue(CLIENT, "ca").ours.der
    assert not [secret for secret in (USER, PASSWORD, CLIENT) if secret.encode() in heard]
    assert own[-32:] not in heard
    assert not server.said
    with pytest.raises(GatewayNotAuthenticated):
        eap.respond(server.start())
    assert eap.msk is None


@VERSIONS
def test_a_proven_server_gets_what_it_needs(tls13: bool) -> None:
    """The test above can fail: with the right certificate the same login says all of it."""
    server = Server(EapType.TTLS, tls13=tls13)
    eap = peer(EapType.TTLS, tls=credentials(inner="pap"))
    run(eap, server, until=lambda: bool(server.said))
    assert USER.encode() in server.said
    assert PASSWORD.encode() in server.said
    assert eap.respond(EAP_SUCCESS) is None
    label = b"EXPORTER_EAP_TLS_Key_Material" if tls13 else b"ttls keying material"
    assert eap.msk == server.tls.export_keying_material(label, 128, bytes([21]) if tls13 else None)[:64]


@pytest.mark.parametrize("method", [EapType.TLS, EapType.TTLS, EapType.PEAP])
def test_a_failure_before_the_servers_certificate_is_no_word_about_ours(method: EapType) -> None:
    """A server behind the gateway that is down, or that does not know the name outside of TLS."""
    eap, server = peer(method, tls=credentials(certificate=True)), Server(method)
    eap.respond(IDENTITY)
    eap.respond(server.start())
    with pytest.raises(AuthenticationFailed, match="before the authentication server had proven itself") as told:
        eap.respond(EAP_FAILURE)
    assert "anonymous@example.org" in str(told.value.reason)
    assert "password" not in " ".join(told.value.lines())


@pytest.mark.parametrize("commits", [True, False])
def test_eap_tls_of_tls_1_3_waits_for_the_commitment(commits: bool) -> None:
    """RFC 9190 section 2.5; E1."""
    server = Server(EapType.TLS, wants_certificate=True)
    eap = peer(EapType.TLS, tls=credentials(certificate=True))
    eap.respond(run(eap, server))
    if commits:
        say(eap, server, b"\0")
        assert eap.respond(EAP_SUCCESS) is None
        material = server.tls.export_keying_material(b"EXPORTER_EAP_TLS_Key_Material", 128, bytes([13]))
        assert eap.msk == material[:64]
    else:
        with pytest.raises(GatewayNotAuthenticated, match="skipped"):
            eap.respond(EAP_SUCCESS)


def test_data_inside_of_eap_tls_is_no_commitment() -> None:
    server = Server(EapType.TLS, wants_certificate=True)
    eap = peer(EapType.TLS, tls=credentials(certificate=True))
    eap.respond(run(eap, server))
    with pytest.raises(NegotiationRefused):
        say(eap, server, b"\1")


def inside(method: EapType, inner: str, *, tls13: bool = True) -> tuple[EapPeer, Server, bytes]:
    """A peer that has said its first word inside of TLS, or for PEAP waits for the server's."""
    server = Server(method, tls13=tls13)
    eap = peer(method, tls=credentials(inner=inner))
    request = run(eap, server, until=lambda: bool(server.said) or (method == EapType.PEAP and server.silent))
    if server.tls.get_peer_finished() and method == EapType.PEAP:
        eap.respond(request)
    return eap, server, request


@pytest.mark.parametrize(
    "attribute",
    [
        b"\0\0\0\x4f",
        b"\0\0\0\x4f\x40\0\0\0",
        b"\0\0\0\x4f\x40\0\0\7AAA",
        b"\0\0\0\x4f\x40\xff\xff\xff" + b"A" * 64,
        b"\0\0\0\x1a\xc0\0\0\x0a\0\0\1\x37",
        b"\0\0\0\x4f\x40\0\0\x09A\0\0\0\1",
        Avp(code=999, value=b"mandatory and unknown").emit(),
        Avp(code=1, value=b"").emit() * 65,
    ],
)
def test_an_attribute_that_does_not_fit_ends_the_login(attribute: bytes) -> None:
    """E11: CVE-2026-25075."""
    eap, server, _ = inside(EapType.TTLS, "mschapv2")
    with pytest.raises(NegotiationRefused):
        say(eap, server, attribute)
    with pytest.raises(NegotiationRefused):
        eap.respond(EAP_SUCCESS)


@pytest.mark.parametrize("value", [b"", b"\1", b"\1S=" + b"0" * 40, b"\1S=zz"])
def test_a_server_that_does_not_know_the_password_is_found_out_in_ttls(value: bytes) -> None:
    """E8."""
    eap, server, _ = inside(EapType.TTLS, "mschapv2")
    with pytest.raises(GatewayNotAuthenticated):
        say(eap, server, Avp(code=avp.MS_CHAP2_SUCCESS, vendor=avp.MICROSOFT, value=value).emit())


@pytest.mark.parametrize("inner", ["mschapv2", "eap-mschapv2", "gtc", "md5"])
def test_a_success_in_the_middle_of_ttls_is_none(inner: str) -> None:
    """E1."""
    eap, _, _ = inside(EapType.TTLS, inner)
    with pytest.raises(GatewayNotAuthenticated, match="skipped"):
        eap.respond(EAP_SUCCESS)


def test_a_refusal_inside_of_ttls_is_told_in_plain_words() -> None:
    """E7: CVE-2025-62291."""
    eap, server, _ = inside(EapType.TTLS, "mschapv2")
    error = b"\1E=691 R=1 C=" + b"A" * 32 + b" V=3 M=\x1b[2Jno"
    say(eap, server, Avp(code=avp.MS_CHAP_ERROR, vendor=avp.MICROSOFT, value=error).emit())
    with pytest.raises(AuthenticationFailed, match="E=691") as refused:
        eap.respond(EAP_FAILURE)
    assert "\x1b" not in "".join(refused.value.lines())


def tlvs(values: bytes) -> bytes:
    return bytes([1, 5]) + (5 + len(values)).to_bytes(2, "big") + b"\x21" + values


@pytest.mark.parametrize(
    "values",
    [b"\x80\3", b"\x80\3\0\2\0", b"\x80\3\xff\xff\0\1", b"", tlv(RESULT, SUCCESS) * 2, tlv(RESULT, SUCCESS) + b"\0"],
)
def test_a_tlv_that_does_not_fit_ends_the_login(values: bytes) -> None:
    """E11."""
    eap, server, _ = inside(EapType.PEAP, "mschapv2")
    with pytest.raises(NegotiationRefused):
        say(eap, server, tlvs(values))


def test_an_unknown_mandatory_tlv_is_answered_with_a_nak_and_proves_nothing() -> None:
    eap, server, _ = inside(EapType.PEAP, "mschapv2")
    answer = say(eap, server, tlvs(tlv(77, b"x") + tlv(RESULT, SUCCESS)))
    assert isinstance(answer, bytes)
    server.take(answer)
    assert parse_tlvs(bytes(server.said)[5:])[4] == (True, bytes(4) + b"\0\x4d")
    with pytest.raises(GatewayNotAuthenticated):
        eap.respond(EAP_SUCCESS)


def test_a_result_before_the_login_inside_of_peap_is_none() -> None:
    """E1: the server has shown its certificate only."""
    eap, server, _ = inside(EapType.PEAP, "mschapv2")
    with pytest.raises(GatewayNotAuthenticated, match="skipped"):
        say(eap, server, tlvs(tlv(RESULT, SUCCESS)))


def test_a_success_without_a_result_is_none_in_peap() -> None:
    """E1: GTC has been answered inside, and the Result TLV is the protected word for success."""
    eap, server, _ = inside(EapType.PEAP, "gtc")
    answer = say(eap, server, b"\6Password:")
    assert isinstance(answer, bytes)
    server.take(answer)
    assert PASSWORD.encode() in server.said
    with pytest.raises(GatewayNotAuthenticated, match="skipped"):
        eap.respond(EAP_SUCCESS)


@pytest.mark.parametrize("length", [0, 55, 56, 57])
def test_a_wrong_crypto_binding_ends_the_login(length: int) -> None:
    eap, server, _ = inside(EapType.PEAP, "gtc")
    say(eap, server, b"\6Password:")
    with pytest.raises((GatewayNotAuthenticated, NegotiationRefused)):
        say(eap, server, tlvs(tlv(RESULT, SUCCESS) + tlv(CRYPTO_BINDING, bytes(length))))
    assert eap.msk is None


def test_a_result_of_failure_is_confirmed_and_told() -> None:
    eap, server, _ = inside(EapType.PEAP, "mschapv2")
    answer = say(eap, server, tlvs(tlv(RESULT, FAILURE)))
    assert isinstance(answer, bytes)
    server.take(answer)
    assert parse_tlvs(bytes(server.said)[5:]) == {RESULT: (True, FAILURE)}
    with pytest.raises(AuthenticationFailed, match="or the password"):
        eap.respond(EAP_FAILURE)


def hello(version: int, suite: int) -> bytes:
    body = version.to_bytes(2, "big") + bytes(32) + b"\0" + suite.to_bytes(2, "big") + b"\0"
    message = b"\2" + len(body).to_bytes(3, "big") + body
    return b"\x16" + version.to_bytes(2, "big") + len(message).to_bytes(2, "big") + message


@pytest.mark.parametrize("answer", [hello(0x0301, 0x2F), hello(0x0302, 0x2F), b"\x15\3\1\0\2\2\x46"])
def test_old_tls_is_refused_in_words(answer: bytes) -> None:
    """E14: TLS 1.0 and 1.1, chosen by the server or demanded with an alert."""
    eap, server = peer(EapType.TTLS, tls=credentials()), Server(EapType.TTLS)
    response = eap.respond(server.start())
    while isinstance(response, bytes) and response[5] & 0x40:
        response = eap.respond(server.packet(b"\0"))
    with pytest.raises(NegotiationRefused) as refused:
        eap.respond(server.packet(b"\0" + answer))
    assert "TLS 1.2" in " ".join(refused.value.lines())


@pytest.mark.parametrize("suite", [0x0034, 0x003B, 0x0001, 0xC019, 0x002F])
def test_a_suite_that_was_not_offered_is_refused(suite: int) -> None:
    """E14: anonymous, without encryption, without forward secrecy."""
    eap, server = peer(EapType.TTLS, tls=credentials()), Server(EapType.TTLS)
    response = eap.respond(server.start())
    while isinstance(response, bytes) and response[5] & 0x40:
        response = eap.respond(server.packet(b"\0"))
    with pytest.raises(NegotiationRefused):
        eap.respond(server.packet(b"\0" + hello(0x0303, suite)))


def extension(kind: int, value: bytes) -> bytes:
    return kind.to_bytes(2, "big") + len(value).to_bytes(2, "big") + value


MODERN = extension(43, b"\3\4")
X25519 = b"\0\x1d"
MALFORMED_HELLOS: dict[str, bytes] = {
    "no version": extension(43, b""),
    "half a version": extension(43, b"\3"),
    "a list of versions": extension(43, b"\2\3\4"),
    "no public value": MODERN,
    "an empty key share": MODERN + extension(51, b""),
    "an empty public value": MODERN + extension(51, X25519 + b"\0\0"),
    "a public value of zeros": MODERN + extension(51, X25519 + b"\0\x20" + bytes(32)),
    "a public value that is cut off": MODERN + extension(51, X25519 + b"\0\x20" + bytes(8)),
    "a group that was not offered": MODERN + extension(51, b"\1\4\0\1A"),
    "an extension that is cut off": MODERN + b"\0\x33\0\x40A",
}


@pytest.mark.parametrize("what", MALFORMED_HELLOS)
def test_a_malformed_answer_to_the_handshake_ends_the_login_and_no_more(what: str) -> None:
    """E14; CVE-2026-35328 and CVE-2026-35332 are faults of another TLS in its handshake. Each comes to its place."""
    eap, server = peer(EapType.TTLS, tls=credentials()), Server(EapType.TTLS)
    response = eap.respond(server.start())
    heard = b""
    while isinstance(response, bytes) and response[5] & 0x40:
        heard += response[10 if response[5] & 0x80 else 6 :]
        response = eap.respond(server.packet(b"\0"))
    assert isinstance(response, bytes)
    heard += response[10 if response[5] & 0x80 else 6 :]
    session = heard[43 : 44 + heard[43]]  # behind record, handshake, version and random
    extensions = MALFORMED_HELLOS[what]
    body = b"\3\3" + bytes(range(32)) + session + b"\x13\1\0" + len(extensions).to_bytes(2, "big") + extensions
    message = b"\2" + len(body).to_bytes(3, "big") + body
    with pytest.raises(NegotiationRefused):
        eap.respond(server.packet(b"\0\x16\3\3" + len(message).to_bytes(2, "big") + message))
    with pytest.raises(NegotiationRefused):
        eap.respond(EAP_SUCCESS)
    assert eap.msk is None


def test_a_session_is_neither_renegotiated_nor_resumed() -> None:
    """E14: HelloRequest gets no new handshake, and a second login none that is shorter."""
    eap, server, _ = inside(EapType.TTLS, "mschapv2", tls13=False)
    server.tls.renegotiate()
    answer = eap.respond(server.send())
    assert isinstance(answer, bytes)
    assert len(answer) < 100
    hellos = []
    for _ in range(2):
        again, other = peer(EapType.TTLS, tls=credentials()), Server(EapType.TTLS)
        run(again, other, until=lambda other=other: bool(other.said))  # type: ignore[misc]
        hellos.append(len(bytes(other.heard)))
    assert hellos[0] == hellos[1]


FRAGMENTS: dict[str, list[bytes]] = {
    "nothing": [b""],
    "more for ever": [b"\xc0\0\1\0\0A"] + [b"\x40A"] * MAX_FRAGMENTS,
    "4 GiB": [b"\xc0\xff\xff\xff\xffA"],
    "more than 64 KiB": [b"\xc0" + (MAX_MESSAGE + 1).to_bytes(4, "big") + b"A"],
    "more than announced": [b"\xc0\0\0\0\2A", b"\x40AA"],
    "less than announced": [b"\xc0\0\0\0\5A", b"\0A"],
    "an empty fragment": [b"\xc0\0\0\0\5A", b"\x40"],
    "an empty first one": [b"\xc0\0\0\0\5"],
    "another length later": [b"\xc0\0\0\0\5A", b"\xc0\0\0\0\6A"],
    "half a length": [b"\x80\0\0"],
    "no length": [b"\x40A"],
    "a start": [b"\x20"],
    "much in one": [b"\0" + b"A" * (MAX_MESSAGE + 1)],
}


@pytest.mark.parametrize("case", FRAGMENTS)
def test_fragments_that_lead_nowhere_are_refused(case: str) -> None:
    """E12."""
    fragments = Fragments()
    *first, last = FRAGMENTS[case]
    assert [fragments.take(data) for data in first] == [None] * len(first)
    with pytest.raises(NegotiationRefused):
        fragments.take(last)


@given(st.binary(max_size=MAX_MESSAGE - 1))
def test_a_message_comes_through_fragments(message: bytes) -> None:
    ours, theirs = Fragments(), Fragments()
    data = ours.put(message)
    while (found := theirs.take(data)) is None:
        data = ours.next(b"\0")
    assert found == message
    assert not ours.sending


@pytest.mark.parametrize("data", [b"", b"\x40", b"\0A", b"\x20", b"\x80\0\0\0\0"])
def test_only_an_acknowledgement_brings_the_next_fragment(data: bytes) -> None:
    """E12."""
    fragments = Fragments()
    fragments.put(bytes(3000))
    with pytest.raises(NegotiationRefused):
        fragments.next(data)


def test_what_is_accepted_from_anybody_is_told_in_a_nak() -> None:
    """E4: `eap` takes neither GTC nor MD5, and says what it takes."""
    methods = (EapType.PEAP, EapType.TTLS, EapType.MSCHAPV2)
    eap = peer(*methods, tls=credentials())
    for offered in (EapType.GTC, EapType.MD5_CHALLENGE, EapType.TLS):
        answer = eap.respond(bytes([1, offered, 0, 6, offered, 0]))
        assert answer == bytes([2, offered, 0, 8, EapType.NAK, *methods])


def test_the_words_for_what_runs_inside_are_the_profiles() -> None:
    """With `pap`, which is an attribute of TTLS alone."""
    assert {*PEAP_INNER, "pap"} == set(INNER)


def test_a_question_inside_of_the_tunnel_waits_for_a_person() -> None:
    """The answer goes where the question came from, however long it takes."""
    server = Server(EapType.PEAP)
    eap = peer(EapType.PEAP, tls=credentials(inner="gtc"), password=None)
    eap.respond(run(eap, server))
    request = server.send(b"\6Token 4711")
    need = eap.respond(request)
    assert need == NeedCredential(kind="password", prompt="the gateway says: Token 4711")
    assert eap.respond(request) == need
    answer = eap.supply("1234")
    assert isinstance(answer, bytes)
    server.take(answer)
    assert bytes(server.said) == b"\x061234"


def stapled(state: ocsp.OCSPCertStatus, server: str = SERVER) -> bytes:
    """What a server staples about itself."""
    issuer = issue("ca")
    revoked = state is ocsp.OCSPCertStatus.REVOKED
    builder = ocsp.OCSPResponseBuilder().add_response(
        cert=issue(server, "ca").certificate,
        issuer=issuer.certificate,
        algorithm=hashes.SHA1(),
        cert_status=state,
        this_update=NOW - datetime.timedelta(hours=1),
        next_update=NOW + datetime.timedelta(hours=1),
        revocation_time=NOW - datetime.timedelta(days=1) if revoked else None,
        revocation_reason=None,
    )
    builder = builder.responder_id(ocsp.OCSPResponderEncoding.HASH, issuer.certificate)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


STAPLES = {
    "good": (stapled(ocsp.OCSPCertStatus.GOOD), RevocationState.GOOD),
    "revoked": (stapled(ocsp.OCSPCertStatus.REVOKED), RevocationState.REVOKED),
    "about another": (stapled(ocsp.OCSPCertStatus.GOOD, "www.example.org"), RevocationState.UNKNOWN),
    "garbage": (b"garbage", RevocationState.UNKNOWN),
    "none": (b"", RevocationState.UNKNOWN),
}


@VERSIONS
@pytest.mark.parametrize("staple", STAPLES)
@pytest.mark.parametrize(("method", "inner"), [(EapType.TLS, None), (EapType.TTLS, "pap"), (EapType.PEAP, "mschapv2")])
def test_a_proven_server_is_judged_before_anything_of_ours_leaves(
    method: EapType, inner: str | None, staple: str, tls13: bool
) -> None:
    """C8: with what it stapled (RFC 6066 section 8); the query comes with the very answer that waits for it."""
    response, state = STAPLES[staple]
    server = Server(method, tls13=tls13, wants_certificate=method == EapType.TLS, staple=response)
    eap = peer(method, tls=credentials(certificate=method == EapType.TLS, inner=inner, check_revocation=True))
    queries = []
    request = server.start()
    for _ in range(60):
        heard = len(server.said)
        answer = eap.respond(request)
        assert isinstance(answer, bytes)
        if asked := eap.take_queries():
            assert not heard
            queries += asked
        request = server.take(answer)
        if server.silent:
            break
    (query,) = queries
    assert [each.state for each in query.statuses] == [state]
    assert [each.subject for each in query.path] == [f"CN={SERVER} of ca", "CN=ca of None"]
    assert eap.take_queries() == ()


def test_nothing_is_asked_about_the_server_if_the_profile_says_so() -> None:
    server = Server(EapType.TTLS, staple=stapled(ocsp.OCSPCertStatus.REVOKED))
    eap = peer(EapType.TTLS, tls=credentials(inner="pap"))
    run(eap, server, until=lambda: bool(server.said))
    assert PASSWORD.encode() in server.said
    assert eap.take_queries() == ()
