"""Why a connection was not made, in the words of both protocols."""

from __future__ import annotations

import errno

from ikeclient.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """One reason: the reply code of RFC 1928 section 6, the status of RFC 9110 section 15.6, and a person's words."""

    socks: int
    http: int
    text: str


FAILURE = Refusal(socks=1, http=502, text="the connection failed")
FORBIDDEN = Refusal(socks=2, http=502, text="the system does not allow that connection")
ITSELF = Refusal(socks=2, http=403, text="the proxy does not lead to its own end of the tunnel")
NO_NETWORK = Refusal(socks=3, http=502, text="no network leads there")
NO_HOST = Refusal(socks=4, http=502, text="the host cannot be reached")
NO_NAME = Refusal(socks=4, http=502, text="there is no such name, or its name server fails")
REFUSED = Refusal(socks=5, http=502, text="the host refused the connection")
TIMEOUT = Refusal(socks=6, http=504, text="the host does not answer")
NO_COMMAND = Refusal(socks=7, http=501, text="that command is not supported")
NO_ADDRESS_TYPE = Refusal(socks=8, http=400, text="that kind of address is not supported")
BUSY = Refusal(socks=1, http=503, text="there are too many connections")

_BY_ERRNO: dict[int, Refusal] = {
    errno.ECONNREFUSED: REFUSED,
    errno.ECONNRESET: REFUSED,
    errno.EHOSTUNREACH: NO_HOST,
    errno.EHOSTDOWN: NO_HOST,
    errno.ENETUNREACH: NO_NETWORK,
    errno.ENETDOWN: NO_NETWORK,
    errno.EADDRNOTAVAIL: NO_NETWORK,
    errno.EAFNOSUPPORT: NO_NETWORK,
    errno.ETIMEDOUT: TIMEOUT,
    errno.EACCES: FORBIDDEN,
    errno.EPERM: FORBIDDEN,
    errno.EMFILE: BUSY,
    errno.ENFILE: BUSY,
    errno.ENOBUFS: BUSY,
    errno.ENOMEM: BUSY,
}
# Of several addresses that failed, the one that tells most is reported.
_TELLING = (REFUSED, TIMEOUT, NO_HOST, BUSY, ITSELF, FORBIDDEN, NO_NETWORK, NO_NAME)


class Refused(Exception):  # not an IkeclientError: a client of the proxy sees it, never the person who started it
    """A connection that was not made, with the reason."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


def refusal_of(error: BaseException) -> Refusal:
    """The reason behind an exception."""
    match error:
        case Refused():
            return error.refusal
        case TimeoutError():  # also ETIMEDOUT of the system
            return TIMEOUT
        case OSError():
            return _BY_ERRNO.get(error.errno or 0, FAILURE)
    return FAILURE


def most_telling(refusals: list[Refusal]) -> Refusal:
    """The one to report of several addresses' failures."""
    return min(refusals, key=lambda one: _TELLING.index(one) if one in _TELLING else len(_TELLING), default=FAILURE)
