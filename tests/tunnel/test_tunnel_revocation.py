"""Finding out about revocation: what is asked, of whom, for how long, and what is kept (C8, C11)."""

from __future__ import annotations

import asyncio
import base64
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from certificate_factory import INTERMEDIATE, NOW, OTHER_ROOT, ROOT, Made, gateway
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID
from revocation_factory import HOUR, crl, long_crl, response
from web_server import Handler, Server, reply, serving

from ikeclient.crypto.pki.crl import Crl
from ikeclient.crypto.pki.revocation import own_query, query, read_evidence
from ikeclient.crypto.pki.revocation_status import (
    RevocationPolicy,
    RevocationQuery,
    RevocationState,
    RevocationStatus,
    enforce,
)
from ikeclient.errors import GatewayNotAuthenticated, NoResponse
from ikeclient.ike.events import IPAddress
from ikeclient.net.transport.http import forbidden
from ikeclient.tunnel import fetch, revocation
from ikeclient.tunnel.fetch import Fetcher
from ikeclient.tunnel.resolve import Known
from ikeclient.tunnel.revocation import RevocationLookup
from ikeclient.tunnel.revocation_cache import RevocationCache

HOST = "data.example"


@pytest.fixture(autouse=True)
def _loopback_is_a_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The web server is on this machine, at the one address that passes here."""
    monkeypatch.setattr(
        fetch, "forbidden", lambda address: None if address == ip_address("127.0.0.1") else forbidden(address)
    )


def asking(port: int, ocsp_path: str | None = None, list_path: str | None = None, host: str = HOST) -> Made:
    """A gateway's certificate that says where to ask."""
    extensions: list[x509.ExtensionType] = []
    if ocsp_path is not None:
        where = x509.UniformResourceIdentifier(f"http://{host}:{port}{ocsp_path}")
        access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP, where)
        extensions.append(x509.AuthorityInformationAccess([access]))
    if list_path is not None:
        where = x509.UniformResourceIdentifier(f"http://{host}:{port}{list_path}")
        extensions.append(x509.CRLDistributionPoints([x509.DistributionPoint([where], None, None, None)]))
    return gateway(INTERMEDIATE, *extensions)


async def resolve(hosts: Sequence[str], port: int) -> Known:
    if hosts[0] == "nowhere.example":
        raise NoResponse("cannot find the gateway", reason="nowhere.example: not a name")
    return [(hosts[0], ip_address(hosts[0] if hosts[0][0].isdigit() or ":" in hosts[0] else "127.0.0.1"))]


def about(leaf: Made) -> RevocationQuery:
    path = tuple(each.certificate for each in (leaf, INTERMEDIATE, ROOT))
    return query(path, (), read_evidence(lists=[crl(ROOT)]), NOW)


def look_up(leaf: Made, **arguments: Any) -> RevocationStatus:
    return asyncio.run(ask(lookup_of(**arguments), about(leaf)))


def lookup_of(*, cache: RevocationCache | None = None, **arguments: Any) -> RevocationLookup:
    fetcher = Fetcher(
        arguments.pop("resolve", resolve),
        mark=lambda: 0,
        environment=arguments.pop("environment", {}),
        **arguments,
    )
    return RevocationLookup(fetcher, time_of_day=lambda: NOW, entropy=lambda count: b"n" * count, cache=cache)


async def ask(lookup: RevocationLookup, asked: RevocationQuery) -> RevocationStatus:
    return (await lookup(asked)).statuses[0]


@pytest.mark.parametrize("status", [ocsp.OCSPCertStatus.GOOD, ocsp.OCSPCertStatus.REVOKED])
def test_a_responder_is_asked_with_a_nonce(status: ocsp.OCSPCertStatus) -> None:
    pages: dict[str, Handler | bytes | None] = {}
    with serving(pages) as server:
        leaf = asking(server.server_port, "/ocsp", "/list")

        def answer(handler: Any) -> None:
            request = ocsp.load_der_ocsp_request(handler.body)
            nonce = request.extensions.get_extension_for_class(x509.OCSPNonce).value.nonce
            reply(handler, response(leaf, INTERMEDIATE, status=status, nonce=nonce))

        pages["/ocsp"] = answer
        found = look_up(leaf)
    assert found.state.name == status.name
    assert server.asked == ["POST /ocsp"]


def decoded(handler: Any) -> ocsp.OCSPRequest:
    """What a GET asks (RFC 5019 section 5)."""
    return ocsp.load_der_ocsp_request(base64.b64decode(unquote(handler.path.rpartition("/")[2])))


@pytest.mark.parametrize("refusal", ["405", "malformed", "garbage"])
def test_a_responder_that_takes_no_post_is_asked_by_get(refusal: str, tmp_path: Path) -> None:
    """RFC 5019 section 5, RFC 9654 section 2.1: without a nonce, and what it says is kept as any other answer."""
    cache = RevocationCache(tmp_path / "revocation")
    cache.prepare()
    malformed = ocsp.OCSPResponseBuilder.build_unsuccessful(ocsp.OCSPResponseStatus.MALFORMED_REQUEST)
    seen: list[ocsp.OCSPRequest] = []

    def answer(handler: Any) -> None:
        if handler.command == "POST":
            if refusal == "405":
                handler.send_error(405)
            else:
                der = serialization.Encoding.DER
                reply(handler, malformed.public_bytes(der) if refusal == "malformed" else b"<html>")
            return
        seen.append(decoded(handler))
        reply(handler, response(leaf, INTERMEDIATE))

    with serving({"": answer}) as server:
        leaf = asking(server.server_port, "/r/")
        assert str(look_up(leaf, cache=cache)) == "good (OCSP)"
        assert [each.partition(" ")[0] for each in server.asked] == ["POST", "GET"]
        assert server.asked[1].startswith("GET /r/M")
        assert str(look_up(leaf, cache=cache)) == "good (OCSP)"
        assert len(server.asked) == 2
    (question,) = seen
    assert question.serial_number == leaf.x509.serial_number
    assert not list(question.extensions)


def test_a_responder_that_answered_or_cannot_be_reached_is_not_asked_twice() -> None:
    pages: dict[str, Handler | bytes | None] = {}
    with serving(pages) as server:
        leaf = asking(server.server_port, "/ocsp")
        pages["/ocsp"] = response(leaf, INTERMEDIATE, status=ocsp.OCSPCertStatus.UNKNOWN)
        assert "does not know the certificate" in look_up(leaf).detail
        assert server.asked == ["POST /ocsp"]
        port = server.server_port
    assert look_up(asking(port, "/ocsp")).detail.count("connection refused") == 1


@pytest.mark.parametrize("path", ["/" + 200 * "a", "/ocsp?for=us"])
def test_a_question_that_would_not_fit_a_url_is_not_asked_by_get(path: str) -> None:
    with serving({}) as server:
        found = look_up(asking(server.server_port, path))
        assert len(server.asked) == 1
    assert "404" in found.detail


def test_our_own_response_is_fetched_for_a_gateway_that_asks_for_it(tmp_path: Path) -> None:
    """RFC 4806 section 3.2; C8: only OCSP, only about our certificate, and from the cache the next time."""
    cache = RevocationCache(tmp_path / "revocation")
    cache.prepare()
    pages: dict[str, Handler | bytes | None] = {"/list": crl(INTERMEDIATE)}
    with serving(pages) as server:
        leaf = asking(server.server_port, "/ocsp", "/list")
        asked = own_query((leaf.certificate, INTERMEDIATE.certificate), (), NOW)
        assert asked is not None
        pages["/ocsp"] = None
        silent = asyncio.run(lookup_of(cache=cache)(asked))
        assert silent.response is None
        assert not [each for each in server.asked if "list" in each]
        pages["/ocsp"] = answer = response(leaf, INTERMEDIATE, status=ocsp.OCSPCertStatus.REVOKED)
        for _ in range(2):
            found = asyncio.run(lookup_of(cache=cache)(asked))
            assert found.response == answer
            assert [each.state for each in found.statuses] == [RevocationState.REVOKED]
        assert server.asked[-1] == "POST /ocsp"
        count = len(server.asked)
        asyncio.run(lookup_of(cache=cache)(asked))
        assert len(server.asked) == count
    assert own_query((leaf.certificate,), (), NOW) is None
    assert own_query((gateway(INTERMEDIATE).certificate, INTERMEDIATE.certificate), (), NOW) is None


def test_a_responder_that_does_not_know_is_followed_by_the_list() -> None:
    pages: dict[str, Handler | bytes | None] = {"/list": crl(INTERMEDIATE)}
    with serving(pages) as server:
        leaf = asking(server.server_port, "/ocsp", "/list")
        pages["/ocsp"] = response(leaf, INTERMEDIATE, status=ocsp.OCSPCertStatus.UNKNOWN)
        assert str(look_up(leaf)) == "good (CRL)"
        pages["/list"] = crl(INTERMEDIATE, leaf)
        assert look_up(leaf).state is RevocationState.REVOKED
    assert server.asked == ["POST /ocsp", "GET /list"] * 2


def slow(handler: BaseHTTPRequestHandler) -> None:
    server = handler.server
    assert isinstance(server, Server)
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    while not server.gone.wait(0.05):
        handler.wfile.write(b".")
        handler.wfile.flush()


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(1 << 14):
        handler.wfile.write(bytes(1 << 16))


def huge(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", str(1 << 30))
    handler.end_headers()


def to(location: str) -> Handler:
    def redirect(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", location)
        handler.end_headers()

    return redirect


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (None, "status 404"),
        (b"nothing of the kind", "DER"),
        (crl(INTERMEDIATE, signer=OTHER_ROOT), "not signed by its issuer"),
        (crl(INTERMEDIATE, start=NOW - 2 * HOUR, end=NOW - HOUR), "out of date"),
        (slow, "does not answer in time"),
        (huge, "answer of 1073741824 bytes is too long"),
        (endless, "too long"),
        (to("http://127.0.0.2/list"), "of this machine itself"),
        (to("http://[::1]/list"), "of this machine itself"),
        (to("http://[::ffff:127.0.0.3]/list"), "of this machine itself"),
        (to("http://169.254.169.254/latest/meta-data"), "of the link only"),
        (to("file:///etc/passwd"), "not one of plain HTTP"),
        (to("https://data.example/list"), "not one of plain HTTP"),
        (to("/list"), "redirects more than 2 times"),
        (to("http://user:word@data.example/"), "not one of plain HTTP"),
        (to("http://nowhere.example/"), "not a name"),
        (lambda handler: handler.wfile.write(b"SSH-2.0-x\r\n"), "not HTTP"),
    ],
)
def test_what_does_not_help_is_unknown_and_says_why(
    page: Handler | bytes | None, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C11: tarpits, huge answers, and redirects to where nobody but us could go."""
    if page is slow:
        monkeypatch.setattr(revocation, "FETCH", 0.5)
    with serving({"/list": page}) as server:
        found = look_up(asking(server.server_port, None, "/list"))
    assert found.state is RevocationState.UNKNOWN
    assert why in found.detail
    assert f"http://{HOST}:{server.server_port}/list" in found.detail
    assert len(server.asked) <= 3


@pytest.mark.parametrize(
    "host",
    ["127.0.0.9", "169.254.1.1", "[::1]", "[fe80::1]", "0.0.0.0", "224.0.0.1", "[64:ff9b::7f00:1]", "[2002:7f00:1::]"],
)
def test_this_machine_and_its_link_are_never_asked(host: str) -> None:
    """C11: the address that counts is the one that a name resolves to."""
    literal = ip_address(host.strip("[]"))

    async def rebound(hosts: Sequence[str], port: int) -> Known:
        return [(hosts[0], ip_address("192.0.2.1")), (hosts[0], literal)]

    leaf = asking(80, None, "/list")
    found = look_up(leaf, resolve=rebound)
    assert "its address is" in found.detail
    assert "its address is" in look_up(asking(80, None, "/list", host=host)).detail


def test_two_redirects_are_followed() -> None:
    pages: dict[str, Handler | bytes | None] = {"/a": to("/b"), "/b": to("/c"), "/c": crl(INTERMEDIATE)}
    with serving(pages) as server:
        assert look_up(asking(server.server_port, None, "/a")).state is RevocationState.GOOD


def test_a_proxy_is_asked_for_the_whole_url_and_may_be_on_this_machine() -> None:
    """C11: what the proxy's own address is, is the user's choice; what it is asked for is not."""
    pages: dict[str, Handler | bytes | None] = {"/far.example/list": crl(INTERMEDIATE)}
    with serving(pages) as server:
        leaf = asking(80, None, "/list", host="far.example")
        proxy = {"http_proxy": f"http://127.0.0.1:{server.server_port}"}
        assert look_up(leaf, environment=proxy).state is RevocationState.GOOD
        assert server.asked == ["GET http://far.example/list"]
        inner = asking(80, None, "/list", host="127.0.0.9")
        assert "of this machine itself" in look_up(inner, environment=proxy).detail
        assert server.asked == ["GET http://far.example/list"]


def test_only_who_is_asked_is_let_through_a_closed_machine_and_only_meanwhile() -> None:
    admitted: list[tuple[IPAddress | None, int]] = []
    with serving({"/list": crl(INTERMEDIATE)}) as server:
        leaf = asking(server.server_port, None, "/list")
        look_up(leaf, admit=lambda address, port: admitted.append((address, port)))
    assert [address for address, _ in admitted] == [ip_address("127.0.0.1"), None]
    assert admitted[0][1] > 0


def test_what_was_learnt_is_kept_until_it_expires(tmp_path: Path) -> None:
    cache = RevocationCache(tmp_path / "revocation")
    cache.prepare()
    pages: dict[str, Handler | bytes | None] = {"/list": crl(INTERMEDIATE)}
    with serving(pages) as server:
        leaf = asking(server.server_port, "/ocsp", "/list")
        pages["/ocsp"] = response(leaf, INTERMEDIATE)
        assert str(look_up(leaf, cache=cache)) == "good (OCSP)"
        assert str(look_up(leaf, cache=cache)) == "good (OCSP)"
        assert server.asked == ["POST /ocsp"]
        only_list = asking(server.server_port, None, "/list")
        assert str(look_up(only_list, cache=cache)) == "good (CRL)"
        assert str(look_up(only_list, cache=cache)) == "good (CRL)"
        assert server.asked == ["POST /ocsp", "GET /list"]
        for file in (tmp_path / "revocation").iterdir():
            assert file.stat().st_mode & 0o777 == 0o600
            file.write_bytes(b"damaged")
        assert str(look_up(leaf, cache=cache)) == "good (OCSP)"
        assert server.asked == ["POST /ocsp", "GET /list", "POST /ocsp"]


def test_what_expired_is_asked_for_again(tmp_path: Path) -> None:
    cache = RevocationCache(tmp_path / "revocation")
    cache.prepare()
    pages: dict[str, Handler | bytes | None] = {"/list": crl(INTERMEDIATE)}
    with serving(pages) as server:
        leaf = asking(server.server_port, None, "/list")
        cache.put(f"crl http://{HOST}:{server.server_port}/list", crl(INTERMEDIATE, leaf, end=NOW - HOUR))
        assert look_up(leaf, cache=cache).state is RevocationState.GOOD
    assert server.asked == ["GET /list"]


def test_a_tunnel_that_has_no_time_left_does_not_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "TOTAL", 0.0)
    assert "no time left" in look_up(asking(80, None, "/list")).detail


@pytest.mark.parametrize("revoked", [False, True])
def test_a_list_of_50000_entries_is_verified_while_packets_go_on(
    revoked: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C8: neither reading nor verifying nor searching happens in the loop, which gets its turns meanwhile.

    On a busy machine with two cores the loop's longest pause was 14 ms, and 60 ms if the certificate is listed.
    """
    threads: set[str] = set()
    read = Crl.__init__

    def noted(self: Crl, encoded: bytes) -> None:
        threads.add(threading.current_thread().name)
        read(self, encoded)

    monkeypatch.setattr(Crl, "__init__", noted)
    cache = RevocationCache(tmp_path / "revocation")
    cache.prepare()
    leaf = asking(80, None, "/list")
    content = long_crl(INTERMEDIATE, 50_000, *([leaf] if revoked else []))
    cache.put(f"crl http://{HOST}:80/list", content)
    asked = about(leaf)
    threads.clear()

    async def look() -> tuple[RevocationStatus, int]:
        turns = 0
        task = asyncio.create_task(ask(lookup_of(cache=cache), asked))
        while not task.done():
            turns += 1
            await asyncio.sleep(0)
        return task.result(), turns

    found, turns = asyncio.run(look())
    assert str(found).startswith("revoked (CRL" if revoked else "good (CRL")
    assert threads
    assert threading.main_thread().name not in threads
    assert turns > 10


CLOSED = 1  # a port where nothing listens

STATES: dict[str, tuple[Handler | bytes | None, str]] = {  # what the list's URL has; how the certificate then is
    "good": (crl(INTERMEDIATE), "good"),
    "revoked": (b"", "revoked"),  # made for the certificate, see below
    "unknown": (None, "unknown"),
    "stale": (crl(INTERMEDIATE, start=NOW - 2 * HOUR, end=NOW - HOUR), "unknown"),
    "of the future": (crl(INTERMEDIATE, start=NOW + HOUR, end=NOW + 2 * HOUR), "unknown"),
    "wrong signer": (crl(INTERMEDIATE, signer=OTHER_ROOT), "unknown"),
    "unreachable": (b"", "unknown"),
    "slow": (slow, "unknown"),
    "1 GB": (huge, "unknown"),
    "endless": (endless, "unknown"),
    "redirect to loopback": (to("http://127.0.0.2/list"), "unknown"),
    "redirect to the link": (to("http://169.254.169.254/list"), "unknown"),
    "redirect to a file": (to("file:///etc/passwd"), "unknown"),
    "garbage": (b"garbage", "unknown"),
    "no place to ask": (b"", "unknown"),
}


@pytest.mark.parametrize("what", STATES)
def test_what_follows_from_a_state_under_each_policy(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """C8, C11: revoked is refused but with "off"; what nobody can tell is refused by strict, and by ifuri if asked."""
    monkeypatch.setattr(revocation, "FETCH", 0.5 if what == "slow" else 10.0)
    page, expected = STATES[what]
    pages: dict[str, Handler | bytes | None] = {"/list": page}
    with serving(pages) as server:
        port = CLOSED if what == "unreachable" else server.server_port
        leaf = asking(port, None, None if what == "no place to ask" else "/list")
        if what == "revoked":
            pages["/list"] = crl(INTERMEDIATE, leaf)
        statuses = asyncio.run(lookup_of()(about(leaf))).statuses
    assert [each.state.value for each in statuses] == [expected, "good"]
    for policy in RevocationPolicy:
        refused = {
            "good": (),
            "revoked": ("relaxed", "strict", "ifuri"),
            "unknown": ("strict",) if what == "no place to ask" else ("strict", "ifuri"),
        }[expected]
        if policy in refused:
            with pytest.raises(GatewayNotAuthenticated):
                enforce(policy, statuses)
        else:
            notice = enforce(policy, statuses)
            assert (notice is None) is (expected == "good" or policy is RevocationPolicy.OFF)
