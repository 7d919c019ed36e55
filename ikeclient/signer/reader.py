"""Cards in PC/SC readers, through pyscard; the only module that imports it, and only inside the process that asks.

The reader is named by its name or by a part of it that only one reader has. The card is held alone for the time of one
question, so that no other program selects something else on it meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from ikeclient.errors import IkeclientError, KeyUnavailable, ProfileError
from ikeclient.signer.messages import CardReader, Seen
from ikeclient.signer.usim import Usim
from ikeclient.wire.text import printable

_FEW, _LAST = 2, 1
_T = TypeVar("_T")


class ReaderCard:
    """The card in one reader. Raises KeyUnavailable for whatever reader or card do not allow.

    `library` is the package smartcard, which a test replaces.
    """

    def __init__(self, source: CardReader, library: Any = None) -> None:
        self._lib = library or _library()
        self._source = source
        self._reader = self._find()
        self.name = f"the card in reader '{printable(str(self._reader), 80)}'"

    def look(self) -> Seen:
        """Tell whether the card wants a PIN."""
        tries = self._with_card(Usim.tries)
        return Seen(
            name=self.name,
            serial=b"",
            wants_pin=tries is not None,
            pin_pad=False,
            few_tries=tries is not None and tries <= _FEW,
            last_try=tries is not None and tries <= _LAST,
        )

    def answer(self, question: str) -> str:
        """Answer a challenge, in the words of `auth.sim.command`."""
        return self._with_card(lambda card: card.answer(question, self._source.pin))

    def _find(self) -> Any:
        with _naming("the PC/SC readers cannot be listed", "is the service pcscd running, and may this user ask it?"):
            found = list(self._lib.System.readers())
        wanted = self._source.reader.lower()
        exact = [each for each in found if str(each).lower() == wanted]
        matching = exact or [each for each in found if wanted in str(each).lower()]
        if len(matching) == 1:
            return matching[0]
        named = ", ".join(f"'{printable(str(each), 80)}'" for each in found[:4])
        raise KeyUnavailable(
            f"{len(matching) or 'no'} PC/SC readers match '{printable(self._source.reader, 80)}'",
            reason=f"there are {named}" if found else "there is none at all",
            hint="name one of them as sim.reader" if found else "plug it in; `pcsc_scan -r` lists readers",
        )

    def _with_card(self, use: Callable[[Usim], _T]) -> _T:
        connection = self._reader.createConnection()
        scard = self._lib.scard
        with _naming(f"{self.name} cannot be used", "is there a card in it, and does no other program hold it?"):
            connection.connect(mode=scard.SCARD_SHARE_EXCLUSIVE, disposition=scard.SCARD_LEAVE_CARD)
            try:
                with_length = connection.getProtocol() == self._lib.CardConnection.CardConnection.T1_protocol
                return use(Usim(lambda command: _transmitted(connection, command), with_length=with_length))
            finally:
                connection.disconnect()


def _transmitted(connection: Any, command: bytes) -> bytes:
    data, high, low = connection.transmit(list(command))
    return bytes((*data, high, low))


def _library() -> Any:
    try:
        import smartcard
        import smartcard.CardConnection
        import smartcard.scard
        import smartcard.System
    except ImportError as error:
        raise ProfileError(
            "a card in a PC/SC reader needs the package pyscard",
            reason=f"it cannot be loaded: {printable(str(error), 120)}",
            hint="install it: pip install 'ikeclient[pcsc]', or name a program that asks the card as sim.command",
        ) from None
    return smartcard


@contextmanager
def _naming(message: str, hint: str) -> Iterator[None]:
    """Turn what pyscard raises into KeyUnavailable. Its classes have no common base."""
    try:
        yield
    except IkeclientError:
        raise
    except Exception as error:
        text = printable(str(error), 120) or type(error).__name__
        raise KeyUnavailable(message, reason=text, hint=hint) from None
