"""Answers to what is asked about the inside of a tunnel that ends in this process (`control`)."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from ipaddress import ip_address

from ikeclient.control.answers import PingAnswer, ResolveAnswer
from ikeclient.control.protocol import Command, Request
from ikeclient.control.server import OnAsk
from ikeclient.dataplane.async_host import AsyncHost
from ikeclient.errors import UsageError
from ikeclient.stack.ping import PingResult

SECONDS = (0.05, 60.0)  # that an echo may be waited for
SIZES = (16, 8192)  # bytes of data in an echo request


def answers_of(host: AsyncHost) -> OnAsk:
    """Return what answers `ping` and `resolve` with the help of this host."""

    async def answer(request: Request) -> dict[str, object]:
        if request.command is Command.RESOLVE:
            return (await _resolve(host, _text(request.arguments, "name"))).to_json()
        return (await _ping(host, request.arguments)).to_json()

    return answer


async def _ping(host: AsyncHost, arguments: Mapping[str, object]) -> PingAnswer:
    try:
        address = str(ip_address(_text(arguments, "address")))
    except ValueError:
        raise UsageError("`address` is not an address") from None
    timeout = _number(arguments, "timeout", 2.0, SECONDS)
    size = int(_number(arguments, "size", 56, SIZES))
    try:
        result = await host.ping(address, patience=timeout, size=size)
    except OSError as error:
        return PingAnswer(error=error.strerror or str(error))
    return ping_answer(result)


def ping_answer(result: PingResult) -> PingAnswer:
    """Return what came of an echo request in the words of `control`."""
    if result.round_trip is not None:
        return PingAnswer(rtt_ms=round(result.round_trip * 1000, 3))
    return PingAnswer(error=result.error.name.lower().replace("_", " ") if result.error is not None else None)


async def _resolve(host: AsyncHost, name: str) -> ResolveAnswer:
    try:
        return ResolveAnswer(name=name, addresses=tuple(await host.resolve(name)))
    except socket.gaierror as error:
        return ResolveAnswer(name=name, error=(error.strerror or str(error)).removeprefix(f"{name}: "))


def _text(arguments: Mapping[str, object], key: str) -> str:
    value = arguments.get(key)
    if not isinstance(value, str) or not 0 < len(value) <= 255:
        raise UsageError(f"`{key}` has to be a text of 1 to 255 characters")
    return value


def _number(arguments: Mapping[str, object], key: str, default: float, bounds: tuple[float, float]) -> float:
    value = arguments.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not bounds[0] <= value <= bounds[1]:
        raise UsageError(f"`{key}` has to be a number from {bounds[0]:g} to {bounds[1]:g}")
    return value
