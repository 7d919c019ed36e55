"""What happens on one connection of each kind, from the first byte to the last."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace

from ikeclient.errors import ParseError
from ikeclient.lazy_dataclass import dataclass
from ikeclient.proxy import http, socks
from ikeclient.proxy.association import Association, Pool
from ikeclient.proxy.conversation import Conversation
from ikeclient.proxy.destination import Destination
from ikeclient.proxy.dial import dial
from ikeclient.proxy.network import FarEnd, Network
from ikeclient.proxy.refusal import BUSY, FAILURE, NO_ADDRESS_TYPE, NO_COMMAND, Refusal, Refused
from ikeclient.proxy.relay import reset_on_close
from ikeclient.proxy.settings import Credentials, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What the sessions of a server share. `full` tells whether one more is too many."""

    limits: Limits
    network: Network
    pool: Pool
    credentials: Credentials | None


async def forward_session(client: Conversation, means: Means, destination: Destination, *, full: bool) -> None:
    """A connection that always leads to one destination. There is no way to say why it does not, but a reset.

    An address of the namespace itself is the choice of whoever started the proxy; a name that turns out to be one is
    the name server's.
    """
    client.requested()
    limits = replace(means.limits, to_itself=means.limits.to_itself or destination.address is not None)
    try:
        if full:
            raise Refused(BUSY)
        server = await dial(destination, means.network, limits)
    except Refused:
        reset_on_close(client.socket)
        return
    await _relay(client, server)


async def socks_session(client: Conversation, means: Means, *, full: bool) -> None:
    """RFC 1928."""
    try:
        async with asyncio.timeout(means.limits.handshake):
            if not await _let_in(client, means):
                return
            request = await client.read(socks.parse_request, socks.LONGEST)
            client.requested()
    except socks.AddressTypeError:
        await _refuse_socks(client, means, NO_ADDRESS_TYPE)
        return
    try:
        if full:
            raise Refused(BUSY)
        match request.command:
            case socks.Command.CONNECT:
                server = await dial(Destination.of(request.host, request.port), means.network, means.limits)
            case socks.Command.UDP_ASSOCIATE:
                await _associate(client, means, request)
                return
            case _:
                raise Refused(NO_COMMAND)
    except ParseError:
        await _refuse_socks(client, means, FAILURE)
    except Refused as error:
        await _refuse_socks(client, means, error.refusal)
    else:
        host, port = server.own
        await _relay(client, server, greeting=socks.reply(socks.SUCCEEDED, host, port))


async def _let_in(client: Conversation, means: Means) -> bool:
    """Agree on a method, and see the password where one is asked for."""
    wanted = socks.NO_AUTHENTICATION if means.credentials is None else socks.USERNAME_PASSWORD
    if wanted not in await client.read(socks.parse_greeting, socks.LONGEST):
        await client.send(socks.choice(socks.NO_ACCEPTABLE_METHOD))
        await client.part(means.limits.farewell)
        return False
    await client.send(socks.choice(wanted))
    if means.credentials is None:
        return True
    shown = await client.read(socks.parse_username_password, socks.LONGEST)
    accepted = means.credentials.accept(shown.username, shown.password)
    if not accepted:
        await asyncio.sleep(means.limits.wrong_password)
    await client.send(socks.verdict(accepted))
    if not accepted:
        await client.part(means.limits.farewell)  # RFC 1929 section 2: the connection must be closed
    return accepted


async def _refuse_socks(client: Conversation, means: Means, refusal: Refusal) -> None:
    await client.send(socks.reply(refusal.socks))
    await client.part(means.limits.farewell)


async def _associate(client: Conversation, means: Means, request: socks.Request) -> None:
    """UDP ASSOCIATE; returns when the client's TCP connection ends. Raises Refused."""
    local = client.socket.getsockname()[0]
    outside = means.pool.take(local, client.peer)
    if outside is None:
        raise Refused(BUSY)
    try:
        # The address a client states is often its private one, or zero. Datagrams must come from where it connected
        # from, and from the stated port if there is one (RFC 1928 section 6).
        association = Association(
            outside, (client.socket.getpeername()[0], request.port), means.network, to_itself=means.limits.to_itself
        )
        try:
            await client.send(socks.reply(socks.SUCCEEDED, local, outside.getsockname()[1]))
            await client.until_closed()
        finally:
            association.close()
    finally:
        means.pool.give_back(outside, client.peer)


async def http_session(client: Conversation, means: Means, *, full: bool) -> None:
    """CONNECT, or one plain request."""
    try:
        async with asyncio.timeout(means.limits.handshake):
            head = await client.read(http.parse_head, http.LONGEST_HEAD)
            client.requested()
        if means.credentials is not None and not await _http_let_in(head, means):
            await _refuse_http(client, means, 407, "a user name and password are needed")
            return
        plain = None if head.method == b"CONNECT" else http.forward(head)
        destination = http.tunnel_destination(head) if plain is None else plain.destination
    except ParseError as error:
        too_long = len(client.pending) > http.LONGEST_HEAD
        await _refuse_http(client, means, 431 if too_long else 400, str(error))
        return
    except TimeoutError:
        await _refuse_http(client, means, 408, "no request came")
        return
    try:
        if full:
            raise Refused(BUSY)
        server = await dial(destination, means.network, means.limits)
    except Refused as error:
        await _refuse_http(client, means, error.refusal.http, f"{destination}: {error}")
        return
    if plain is None:
        await _relay(client, server, greeting=http.ESTABLISHED)
        return
    first, limit = client.take(), None
    if plain.body is not None:
        first = first[: plain.body]
        limit = plain.body - len(first)
    client.put_back(plain.head + first)
    await _relay(client, server, limit=limit)


async def _http_let_in(head: http.Head, means: Means) -> bool:
    assert means.credentials is not None
    shown = http.credentials(head)
    accepted = shown is not None and means.credentials.accept(*shown)
    if shown is not None and not accepted:
        await asyncio.sleep(means.limits.wrong_password)
    return accepted


async def _refuse_http(client: Conversation, means: Means, status: int, text: str) -> None:
    await client.send(http.refusal(status, text))
    await client.part(means.limits.farewell)


async def _relay(client: Conversation, server: FarEnd, *, greeting: bytes = b"", limit: int | None = None) -> None:
    """Tell the client that it is connected, pass on what it said early, and relay until both are done."""
    with contextlib.closing(server):
        if greeting:
            await client.send(greeting)
        if early := client.take():
            await server.send(early)
        await server.relay(client.socket, limit=limit)
