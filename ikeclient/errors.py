"""Every error a person or a script can meet, with its exit code.

Whose fault it is, is part of the type: the profile, this machine, the gateway, the network or us.
The text of an error is at most three lines: what failed (`message`), why in the words of the
protocol and of a person (`reason`), and what to try (`hint`).
"""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from traceback import walk_tb

READER_GONE = 141  # the exit code, as a shell reports a program that SIGPIPE ended


class IkeclientError(Exception):
    """Base of the tree. An instance of exactly this class is a bug in ikeclient (exit code 1).

    `exit_code` is given for an error of another process, whose class is not known here.
    """

    exit_code = 1

    def __init__(
        self, message: str, *, reason: str | None = None, hint: str | None = None, exit_code: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.reason = reason
        self.hint = hint
        if exit_code is not None:
            self.exit_code = exit_code

    def try_also(self, hint: str) -> None:
        """Add something to try."""
        self.hint = f"{self.hint}; {hint}" if self.hint else hint

    def lines(self) -> list[str]:
        """The error as the one to three lines that people see."""
        return [line for line in (self.message, self.reason, self.hint) if line]


def bug_error(error: BaseException, where: str) -> IkeclientError:
    """What people see of an unexpected exception, whose own message may quote a secret; `where` is the rest."""
    return IkeclientError(f"unexpected {type(error).__name__}", reason=f"this is a bug in ikeclient; {where}")


def shortage(error: BaseException) -> PlatformError | None:
    """What people see if this machine, or a limit on the process, has run out of something; None for other errors."""
    match error:
        case PlatformError():
            return error
        case _ if _is_about_memory(error):
            return PlatformError("there is not enough memory", hint=f"raise the limit on memory: {_MEMORY_LIMITS}")
        case OSError(errno=errno.EMFILE | errno.ENFILE as code):
            hint = "raise the limit on open files: ulimit -n, LimitNOFILE="
            return PlatformError("there are not enough file descriptors", reason=os.strerror(code), hint=hint)
        case RuntimeError() if "start new thread" in str(error):
            hint = f"raise the limit on processes (ulimit -u, TasksMax=) or on memory ({_MEMORY_LIMITS})"
            return PlatformError("no further thread can be started", hint=hint)
    return None


def _is_about_memory(error: BaseException) -> bool:
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        match current:
            case MemoryError() | OSError(errno=errno.ENOMEM):
                return True
            case ImportError() if "failed to map" in str(current) or "allocate memory" in str(current):
                return True
            case SystemError() if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
                return True  # how functions of libraries end that did not look whether they were given memory
        seen.add(id(current))
        current = current.__cause__ or current.__context__
    return False


_MEMORY_LIMITS = "ulimit -v, MemoryMax=, a container's --memory"


def output_failed(error: OSError) -> PlatformError:
    """The error for a standard output that takes no more, because its disk is full, say."""
    return PlatformError("cannot write to standard output", reason=error.strerror)


def place_of(error: BaseException) -> str:
    """Where an unexpected exception was raised, as `package/module.py:line`: all of it that holds no secret."""
    place = "an unknown place"
    for frame, line in walk_tb(error.__traceback__):
        place = f"{'/'.join(PurePath(frame.f_code.co_filename).parts[-2:])}:{line}"
    return place


class UsageError(IkeclientError):
    """The command line asks for something that cannot be done (exit code 2)."""

    exit_code = 2


class NotConnected(IkeclientError):
    """`status --check` found the tunnel down (exit code 3)."""

    exit_code = 3


class AuthenticationFailed(IkeclientError):
    """The gateway refused our credentials, or we have none it accepts (exit code 4)."""

    exit_code = 4


class KeyUnavailable(AuthenticationFailed):
    """Our private key is elsewhere and does not sign: a token that was pulled out, an agent that is gone."""


class NoResponse(IkeclientError):
    """Nobody answered in time (exit code 5)."""

    exit_code = 5


class NoNetwork(NoResponse):
    """Nobody could be asked: no route leads there, or no name server answers; that may be over a moment later."""


class NegotiationRefused(IkeclientError):
    """The gateway and the profile have nothing in common, or the gateway broke the protocol (exit code 6)."""

    exit_code = 6


class GatewayNotAuthenticated(IkeclientError):
    """The gateway did not prove to be who the profile says it is (exit code 7)."""

    exit_code = 7


class NoSuchTunnel(IkeclientError):
    """No running tunnel has that name (exit code 8)."""

    exit_code = 8


class ProfileError(IkeclientError):
    """The profile cannot be used as it is (exit code 9). `key` is the one it is about, if the message does not say."""

    exit_code = 9
    key: str | None = None

    @classmethod
    @contextmanager
    def about(cls, key: Sequence[str]) -> Iterator[None]:
        """Say of those raised inside which key they are about."""
        try:
            yield
        except cls as error:
            error.key = error.key or ".".join(key)
            raise


class ProfileNotFound(IkeclientError):
    """There is no such profile (exit code 10)."""

    exit_code = 10


class PrivilegeError(IkeclientError):
    """A right or a device that the tunnel needs is missing (exit code 11)."""

    exit_code = 11


class NoNamespace(PrivilegeError):
    """A network namespace with a TUN device in it cannot be had here (exit code 11)."""


class PlatformError(IkeclientError):
    """The machine refused a change; what had been changed was rolled back (exit code 12)."""

    exit_code = 12


class Interrupted(IkeclientError):
    """The person pressed Ctrl-C or a signal asked us to stop (exit code 130)."""

    exit_code = 130


class ProtocolError(IkeclientError):
    """Base of what the protocol code raises about bytes it was given; never reaches a person as it is."""

    exit_code = 6


class ParseError(ProtocolError):
    """Bytes from the network that do not have the structure their type requires."""


class IntegrityError(ProtocolError):
    """A protected message or packet whose integrity check value is wrong."""


class KeyExchangeError(ProtocolError):
    """A peer's key exchange value that RFC 6989 tells us to refuse."""


class SignatureError(ProtocolError):
    """A signature that does not verify, or one made in a way we do not accept."""
