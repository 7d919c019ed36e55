"""`proxy`: the tunnel as a local SOCKS5 and HTTP proxy, without root.

The listeners are bound here, before there is a tunnel, and keep the network they were bound in. What accepts from them
runs inside the tunnel's namespace, so the sockets it makes are the tunnel's (`process.join_or_start`).
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ikeclient.cli.complete import profile_names
from ikeclient.cli.context import LogFormat, settings
from ikeclient.cli.options import ChosenLogFormat, Metrics, Overrides, PasswordStdin, Timeout, Verbose, metrics_address
from ikeclient.cli.view.progress import Progress, display_of, use_format
from ikeclient.cli.view.terminal import asker, read_secret, warn
from ikeclient.control import client
from ikeclient.control.events import error_of, failed, happened
from ikeclient.errors import (
    READER_GONE,
    IkeclientError,
    Interrupted,
    NoNamespace,
    NoResponse,
    ParseError,
    PlatformError,
    UsageError,
)

if TYPE_CHECKING:
    from ikeclient.process.service_socket import Service
    from ikeclient.process.tunnel_request import TunnelRequest
    from ikeclient.proxy.destination import Destination
    from ikeclient.proxy.listen import ListenerSpec
    from ikeclient.proxy.remote_forward import RemoteForward
    from ikeclient.proxy.settings import Credentials, Settings

SOCKS, HTTP = "127.0.0.1:1080", "127.0.0.1:8080"
_BY_SIGNAL = 128  # as a shell reports a program that a signal ended
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}  # which it may be told to end by
_SPOKEN = {"socks": "SOCKS5", "http": "HTTP", "forward": "forward"}


SocksListeners = Annotated[
    list[str] | None,
    typer.Option("--socks", metavar="[HOST:]PORT", help=f"Speak SOCKS5 there [{SOCKS}].", show_default=False),
]
HttpListeners = Annotated[
    list[str] | None,
    typer.Option("--http", metavar="[HOST:]PORT", help=f"Speak HTTP there [{HTTP}].", show_default=False),
]
Forwards = Annotated[
    list[str] | None,
    typer.Option("--forward", metavar="[BIND:]PORT:HOST:PORT", help="Lead a port to HOST:PORT.", show_default=False),
]
Stdio = Annotated[
    str | None,
    typer.Option("--stdio", metavar="HOST:PORT", help="Connect stdin and stdout, for ssh.", show_default=False),
]
RemoteForwards = Annotated[
    list[str] | None,
    typer.Option(
        "--remote-forward",
        metavar="[BIND:]PORT:HOST:PORT",
        help="Listen inside the tunnel, and lead that port to HOST:PORT here; goes with --stack.",
        show_default=False,
    ),
]
Stack = Annotated[
    bool,
    typer.Option(
        "--stack",
        help="End the tunnel in this process: no device, no namespace. Without it, where those cannot be had.",
    ),
]
PasswordFrom = Annotated[
    str | None,
    typer.Option(
        "--password-from",
        metavar="SOURCE",
        help="Where their password is: file:PATH, env:NAME, credential:NAME or prompt.",
        show_default=False,
    ),
]


def proxy(
    profile: Annotated[
        str | None,
        typer.Argument(
            metavar="PROFILE",
            help="A profile, or a tunnel that `exec` started.",
            show_default="IKECLIENT_PROFILE, or what the environment says",
            autocompletion=profile_names,
        ),
    ] = None,
    socks: SocksListeners = None,
    http: HttpListeners = None,
    forward: Forwards = None,
    stdio: Stdio = None,
    remote_forward: RemoteForwards = None,
    stack: Stack = False,
    user: Annotated[str, typer.Option("--user", metavar="NAME", help="Who may use it.")] = "ikeclient",
    password_from: PasswordFrom = None,
    timeout: Timeout = 30.0,
    overrides: Overrides = None,
    password_stdin: PasswordStdin = False,
    metrics: Metrics = None,
    log_format: ChosenLogFormat = None,
    verbose: Verbose = 0,
) -> None:
    """Offer the tunnel as a local SOCKS5 and HTTP proxy. Needs no root.

    --socks, --http and --forward may be repeated. Names are resolved inside
    the tunnel. Listening elsewhere than on loopback needs a password.
    """
    settings.say_more(verbose)
    # With --stdio, what is said is for the person at ssh, whatever standard error is.
    form = use_format(log_format if stdio is None else LogFormat.TEXT)
    progress = Progress(form, settings.verbosity)

    def show(event: Mapping[str, object]) -> None:
        if stdio is None or settings.verbosity:
            progress(event)

    from ikeclient.process.service_socket import Service
    from ikeclient.process.tunnel_request import TunnelRequest

    if stdio is not None and (socks or http or forward or remote_forward or password_from or password_stdin):
        raise UsageError("--stdio stands alone", hint="it listens nowhere, and its input belongs to the connection")
    leads_to = None if stdio is None else _destination(stdio)
    remote = _remote_forwards(remote_forward)
    request = TunnelRequest(
        profile=profile,
        overrides=tuple(overrides or ()),
        timeout=timeout,
        ask=asker(),
        stdin=read_secret if password_stdin else None,
        metrics=metrics_address(metrics),
    )
    in_stack = stack or bool(remote)
    with contextlib.ExitStack() as closing, progress.running():
        served = None
        if leads_to is None:
            served = _settings(_specs(socks, http, forward, remote), user, password_from)
            closing.callback(served.close)
        # Connected here: an abstract socket of systemd's is out of reach in the tunnel's network.
        service = closing.enter_context(contextlib.closing(Service())) if served is not None else None
        if not in_stack:
            try:
                status = _in_namespace(request, served, leads_to, service, progress, show)
            except NoNamespace as error:
                show(happened("notice", request.name, text=_without_namespace(error)))
                in_stack = True
        if in_stack:
            from ikeclient.cli.proxy_in_stack import Offer, run

            def announce() -> None:
                if served is not None:
                    progress(_listening(request.name, served, remote))

            offer = Offer(served=served, leads_to=leads_to, remote=tuple(remote), service=service, announce=announce)
            status = run(request, offer, progress, show)
    raise typer.Exit(status)


def _in_namespace(
    request: TunnelRequest,
    served: Settings | None,
    leads_to: Destination | None,
    service: Service | None,
    progress: Progress,
    show: Callable[[Mapping[str, object]], None],
) -> int:
    """Be the proxy inside the network namespace of the tunnel; returns the exit status."""
    from ikeclient.process import join_or_start

    display = display_of(progress, show)
    if served is None or service is None:
        assert leads_to is not None
        return join_or_start.run(request, lambda: _relay_stdio(leads_to), display)
    status = join_or_start.run(request, lambda: _serve(served, request.name, progress, service), display)
    if status - _BY_SIGNAL in signal.valid_signals() - _ENDING:
        name = signal.Signals(status - _BY_SIGNAL).name
        raise PlatformError("the process that serves the proxy is gone", reason=f"it was ended by {name}")
    if status == Interrupted.exit_code and client.running_pid(request.name) is None:
        progress(happened("disconnected", request.name))  # it was ours, and Ctrl-C is how it is meant to end
    return status


def _without_namespace(error: NoNamespace) -> str:
    why = f"{error.message}: {error.reason}" if error.reason else error.message
    return f"the tunnel ends in this process (--stack), for it {why}"


def _remote_forwards(texts: list[str] | None) -> list[RemoteForward]:
    if not texts:
        return []
    from ikeclient.proxy.remote_forward import parse_remote_forward

    return [parse_remote_forward(text) for text in texts]


def _destination(text: str) -> Destination:
    from ikeclient.proxy.destination import Destination

    try:
        return Destination.parse(text)
    except ParseError as error:
        raise UsageError(f"--stdio '{text}': {error}", hint="for example --stdio git.corp.example:22") from None


def _specs(
    socks: list[str] | None, http: list[str] | None, forward: list[str] | None, remote: Sequence[RemoteForward] = ()
) -> list[ListenerSpec]:
    from ikeclient.proxy.listen import parse_forward, parse_listener
    from ikeclient.proxy.settings import Kind

    if not (socks or http or forward or remote):
        socks, http = [SOCKS], [HTTP]
    specs = [parse_listener(Kind.SOCKS, text) for text in socks or ()]
    specs += [parse_listener(Kind.HTTP, text) for text in http or ()]
    return specs + [parse_forward(text) for text in forward or ()]


def _settings(specs: list[ListenerSpec], user: str, password_from: str | None) -> Settings:
    """Return what the proxy needs, with its sockets bound. Raises UsageError, ProfileError and PlatformError."""
    from ikeclient.proxy.listen import bind
    from ikeclient.proxy.peers import Peers
    from ikeclient.proxy.settings import Kind, Settings

    for one in specs:
        if one.is_local:
            continue
        if one.kind is Kind.FORWARD:
            warn(f"port {one.port} on {one.host} leads everybody who reaches it to {one.destination}")
        elif password_from is None:
            raise UsageError(
                f"--{one.kind} on {one.host} would let everybody who reaches it into the tunnel",
                hint="add --password-from file:PATH, or listen on 127.0.0.1",
            )
    credentials = None if password_from is None else _credentials(user, password_from)
    listeners, datagrams = bind(specs)
    peers = Peers.open()  # in the machine's network, as the listeners
    return Settings(listeners=listeners, datagram_sockets=datagrams, credentials=credentials, peers=peers)


def _credentials(user: str, source: str) -> Credentials:
    """Return user name and password as a digest; what was read is forgotten at once."""
    from ikeclient.profile.load.places import Places
    from ikeclient.profile.model.schema import SecretSource
    from ikeclient.profile.secrets.secrets import Wanted, resolve
    from ikeclient.proxy.settings import Credentials

    kind, _, rest = source.partition(":")
    given: SecretSource
    match kind:
        case "file" if rest:
            given = SecretSource(file=rest)
        case "env" if rest:
            given = SecretSource(env=rest)
        case "credential" if rest:
            given = SecretSource(credential=rest)
        case "prompt" if not rest:
            given = SecretSource(prompt=True)
        case _:  # what was given may be the password itself
            raise UsageError(
                "--password-from names a source, not the password",
                hint="one of file:PATH, env:NAME, credential:NAME, prompt",
            )
    wanted = Wanted(name="password of the proxy", account=user, base_dir=Path.cwd(), ask=asker())
    with Places(name="--password-from").told():
        username, password = user.encode("utf-8", "surrogateescape"), resolve(given, wanted).reveal()
    for name, value in (("name", username), ("password", password)):
        if not 1 <= len(value) <= 255:
            raise UsageError(f"the proxy's user {name} has {len(value)} bytes", reason="RFC 1929 allows 1 to 255")
    return Credentials(username, password)


def _relay_stdio(destination: Destination) -> int:
    """Do what runs inside the tunnel's namespace for `--stdio`."""
    from ikeclient.proxy.stdio import relay_stdio

    try:
        relay_stdio(destination)
    except BrokenPipeError:
        return READER_GONE
    return 0


def _serve(served: Settings, name: str, progress: Progress, service: Service) -> int:
    """Run the proxy inside the tunnel's namespace, until a signal or the end of the tunnel."""
    from ikeclient.net.rights.privileges import forbid_core_dumps
    from ikeclient.process.log_file import log_to
    from ikeclient.proxy.serve import serve

    forbid_core_dumps()  # what people send and receive passes through this process
    log_to(progress.log, settings.verbosity)
    failure: list[IkeclientError] = []

    def until() -> None:
        failure.extend(_follow(name, progress))

    def ready() -> None:
        progress(_listening(name, served))
        service.tell(READY=1, STATUS=f"connected, and serving as a proxy for {name}")

    received = serve(served, on_ready=ready, until=until)
    service.tell(STOPPING=1)
    if received is None and failure:
        if settings.json_errors:
            progress(failed(failure[0]))
            return failure[0].exit_code
        raise failure[0]
    return Interrupted.exit_code if received == signal.SIGINT else 0


def _follow(name: str, progress: Progress) -> list[IkeclientError]:
    """Show what happens to the tunnel until it ends; the error if it did not end in order, or while it was lost."""
    lost: list[str] = []
    ended = False
    try:
        with client.events(name) as events:
            for event in events:
                match event:
                    case {"event": "error"}:  # the last one; it is shown as this process's own
                        told = error_of(event)
                        text = f"the tunnel has ended: {told.message}"
                        return [IkeclientError(text, reason=told.reason, hint=told.hint, exit_code=told.exit_code)]
                    case {"event": "reconnecting", "error": list() as lines}:
                        lost = [str(line) for line in lines]
                    case {"event": "connected"}:
                        lost = []
                    case {"event": "disconnected"}:
                        ended = True
                progress(event)
    except IkeclientError as error:
        return [error]
    if not ended:
        return [PlatformError("the tunnel has ended", reason="its process is gone")]
    return [NoResponse("the tunnel has ended", reason=lost[0])] if lost else []


def _listening(name: str, served: Settings, remote: Sequence[RemoteForward] = ()) -> dict[str, object]:
    """Return the event that tells where the proxy listens."""
    where = []
    for listener in served.listeners:
        host, port = listener.socket.getsockname()[:2]
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        leads_to = f" to {listener.destination}" if listener.destination else ""
        where.append(f"{_SPOKEN[listener.kind]} {address}{leads_to}")
    where += [f"inside the tunnel {forward}" for forward in remote]
    return happened("listening", name, listeners=where)
