"""What happens to a tunnel: every event once, with its keys, its sentence for people and its documentation.

An event is a JSON object with `event`, `time`, `tunnel` and the keys that its kind names. It goes over the control
socket, into the log, to the hooks and to the service manager; which of them want to hear of it is said here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Literal

from ikeclient.errors import IkeclientError
from ikeclient.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EventKind:
    """One kind of event.

    `keys` are those it has besides `event`, `time` and `tunnel`, each with a remark for the documentation, and `when`
    is what it tells. The first of `sentences` whose keys all have a value is the one that people see; `service` is what
    the service manager is told. `hook` names the commands of the profile that it starts. A `step` is a part of
    connecting; what is `quiet` is shown with -v only.
    """

    keys: Mapping[str, str]
    when: str
    sentences: tuple[str, ...]
    service: str | None = None
    hook: Literal["up", "down"] | None = None
    step: bool = False
    quiet: bool = False


EVENTS: dict[str, EventKind] = {
    "resolving": EventKind(
        keys={"host": ""},
        when="before every attempt",
        sentences=("resolving {host}", "resolving"),
        service="connecting",
        step=True,
    ),
    "negotiating": EventKind(
        keys={"gateway": ""},
        when="IKE_SA_INIT was sent",
        sentences=("negotiating with {gateway}", "negotiating"),
        service="connecting: negotiating with {gateway}",
        step=True,
    ),
    "authenticating": EventKind(
        keys={"gateway": ""},
        when="IKE_AUTH was sent",
        sentences=("authenticating",),
        service="connecting: authenticating to {gateway}",
        step=True,
    ),
    "configuring": EventKind(
        keys={"interface": ""},
        when="authenticated; the machine is changed now",
        sentences=("configuring {interface}", "configuring"),
        step=True,
    ),
    "connected": EventKind(
        keys={
            "elapsed_ms": "",
            "interface": "",
            "addresses": "",
            "gateway": "",
            "p_cscf": "list, the operator's servers for calls (RFC 7651)",
        },
        when="packets flow; also after a reconnection, and when the gateway answers again on the same path",
        sentences=(
            "connected in {elapsed_ms} ms: {addresses} on {interface}, gateway {gateway}",
            "connected in {elapsed_ms} ms: {interface}, gateway {gateway}",
            "connected in {elapsed_ms} ms",
            "connected",
        ),
        service="connected on {interface}",
        hook="up",
    ),
    "roamed": EventKind(
        keys={"local": "", "gateway": "", "took_ms": ""},
        when="the gateway confirmed a new pair of addresses",
        sentences=("roamed to {local}", "roamed"),
        service="connected, moved to {local}",
        hook="up",
    ),
    "reauthenticated": EventKind(
        keys={"gateway": ""},
        when="the gateway limits an authentication's life (AUTH_LIFETIME), or a profile that was read again wants "
        "another one, and a new IKE SA carries the tunnel now",
        sentences=("reauthenticated with {gateway}", "reauthenticated"),
        hook="up",
    ),
    "rekeyed": EventKind(
        keys={"what": "`ike` or `child`", "suite": ""},
        when="an SA has new keys",
        sentences=("rekeyed the {what} SA, {suite}", "rekeyed the {what} SA", "rekeyed"),
        quiet=True,
    ),
    "child-closed": EventKind(
        keys={"spi_in": ""},
        when="the gateway deleted the only Child SA, as many do with an idle one; the connection, the routes and the "
        "login stay (`idle` in `status`), and the next packet makes another one. A gateway that twice in a row ends a "
        "whole connection because it was idle gets its next login then as well, as a `notice` says",
        sentences=("the gateway closed the Child SA; the next packet makes another one",),
        quiet=True,
    ),
    "child-created": EventKind(
        keys={"suite": ""},
        when="another Child SA was made in its place",
        sentences=("made another Child SA, {suite}", "made another Child SA"),
        quiet=True,
    ),
    "mtu": EventKind(
        keys={"mtu": "", "path_mtu": ""},
        when="the path carries less, or more, than was believed",
        sentences=("the path carries {path_mtu} bytes: the tunnel's MTU is {mtu}", "the tunnel's MTU changed"),
    ),
    "reconnecting": EventKind(
        keys={"error": "list of lines"},
        when="the gateway is silent, there is no network, or the connection is over and will be made again; also after "
        "each failed attempt",
        sentences=("reconnecting: {error}", "reconnecting"),
        service="reconnecting: {error}",
        hook="down",
    ),
    "retrying": EventKind(
        keys={"error": "list of lines"},
        when="the first connection could not be made and is tried again: within `--timeout` where there was no network "
        "or no name server, with `--retry-first` until it is up",
        sentences=("not connected yet, trying again: {error}", "not connected yet, trying again"),
        service="connecting, trying again: {error}",
    ),
    "disconnected": EventKind(
        keys={},
        when="the machine is restored; the last event, unless the tunnel failed",
        sentences=("disconnected",),
        service="disconnected",
        hook="down",
    ),
    "error": EventKind(
        keys={"message": "", "reason": "or null", "hint": "or null", "exit_code": ""},
        when="the tunnel failed; the last event. Without `disconnected` before it, something is left to undo",
        sentences=(
            "error: {message}; {reason}; {hint}",
            "error: {message}; {reason}",
            "error: {message}; {hint}",
            "error: {message}",
            "error",
        ),
    ),
    "reloaded": EventKind(
        keys={"effect": "`nothing changed`, `applied` (in place) or `connecting anew`"},
        when="the profile was read again after SIGHUP",
        sentences=("the profile was read again: {effect}", "the profile was read again"),
    ),
    "blocked": EventKind(
        keys={"means": "`routes and firewall` or `routes`", "networks": "list"},
        when="the kill switch has closed the machine: before the first packet of `connect`, and after `unblock --for`",
        sentences=(
            "the kill switch is closed ({means}): only the tunnel leads to {networks}",
            "the kill switch is closed",
        ),
    ),
    "unblocked": EventKind(
        keys={"means": "`open until` a time, or empty for good"},
        when="the kill switch was opened by `disconnect` or `unblock`",
        sentences=("the kill switch is {means}", "the kill switch is open"),
    ),
    "listening": EventKind(
        keys={"listeners": "list of `PROTOCOL ADDRESS:PORT`"},
        when="only on `proxy`'s standard error: the tunnel is up and the proxy answers",
        sentences=("listening: {listeners}", "listening"),
    ),
    "notice": EventKind(
        keys={"text": ""},
        when="something to read that changes nothing",
        sentences=("{text}", "notice"),
    ),
    "warning": EventKind(
        keys={"text": ""},
        when="only on `connect`'s standard error: `--insecure-keylog` writes the keys of the connection",
        sentences=("warning: {text}", "warning"),
    ),
    "log": EventKind(
        keys={"text": ""},
        when="only on standard error, with `-v`; without `tunnel`",
        sentences=("{text}", "log"),
    ),
}

STEPS = tuple(name for name, kind in EVENTS.items() if kind.step)
QUIET = tuple(name for name, kind in EVENTS.items() if kind.quiet)
HOOKS: dict[str, str] = {name: kind.hook for name, kind in EVENTS.items() if kind.hook is not None}
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # of hooks
HOOK_VARIABLES = frozenset(  # what a hook sees, and nothing else
    {
        *("PATH", "IKECLIENT_REASON", "IKECLIENT_EVENT", "IKECLIENT_NAME", "IKECLIENT_INTERFACE", "IKECLIENT_GATEWAY"),
        *("IKECLIENT_ADDRESSES", "IKECLIENT_DNS_SERVERS", "IKECLIENT_DNS_DOMAINS", "IKECLIENT_P_CSCF"),
        *("IKECLIENT_ROUTES", "IKECLIENT_MTU"),
    }
)


def timestamp(moment: datetime | None = None) -> str:
    """Return a moment, by default now, as RFC 3339 text in UTC, to the second."""
    return (moment or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%SZ")


def happened(name: str, tunnel: str | None = None, **details: object) -> dict[str, object]:
    """Return an event of the kind `name` that happens now."""
    return {"event": name, "time": timestamp(), **({"tunnel": tunnel} if tunnel else {}), **details}


def failed(error: IkeclientError, tunnel: str | None = None) -> dict[str, object]:
    """Return `error` as an event, the last one there is; what there is not to say is null."""
    return happened(
        "error", tunnel, message=error.message, reason=error.reason, hint=error.hint, exit_code=error.exit_code
    )


def error_of(document: Mapping[str, object]) -> IkeclientError:
    """Return the error that an event tells of, with its exit code; what is missing or of another type is left out."""

    def text(key: str) -> str | None:
        value = document.get(key)
        return value if isinstance(value, str) else None

    code = document.get("exit_code")
    return IkeclientError(
        text("message") or "unknown",
        reason=text("reason"),
        hint=text("hint"),
        exit_code=code if isinstance(code, int) else 1,
    )
