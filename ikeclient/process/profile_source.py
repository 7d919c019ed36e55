"""Where a tunnel's profile and its secrets are read, at the start and again after SIGHUP.

What reads profiles takes as long to load, and as much memory, as all that a tunnel consists of, and nobody needs it
while a tunnel runs. So it is loaded by a process that ends when it has read the profile, while this one loads the rest.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import field, replace
from typing import TYPE_CHECKING

from ikeclient.errors import IkeclientError, ProfileError
from ikeclient.ipc.failure import Failure
from ikeclient.ipc.fork import await_end, fork
from ikeclient.ipc.messages import pack, receive
from ikeclient.ipc.typed import Codec
from ikeclient.lazy_dataclass import dataclass
from ikeclient.process.helper.messages import Remembered
from ikeclient.profile.secrets.secrets import Ask, Secret, erase_variable, passphrases, typed

if TYPE_CHECKING:
    from ikeclient.profile.compiled import CompiledProfile

_PR_SET_PDEATHSIG = 1  # prctl(2)
_GOODBYE = 5.0  # seconds for the other process to end
_CODEC = Codec()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadApart:
    """What another process has read: the profile, and what is to be remembered."""

    profile: object = field(repr=False)
    remembered: Remembered


class ProfileSource:
    """A profile by name, path or file to import, with overrides (KEY=VALUE), to be read any number of times.

    What was typed, piped or taken from the environment is remembered for the next time; `passphrases` are those of
    another such object, which were right.
    """

    def __init__(
        self, reference: str | None, overrides: Sequence[str], passphrases: Mapping[str, bytes] | None = None
    ) -> None:
        self._reference = reference
        self._overrides = tuple(overrides)
        self._kept = {key: Secret(value) for key, value in (passphrases or {}).items()}
        self._attended = False
        self._variables = frozenset(os.environb)

    @property
    def typed(self) -> bool:
        """Whether a person typed what may be wrong."""
        return bool(typed(self._kept))

    @property
    def passphrases(self) -> dict[str, bytes]:
        """The passphrases that a person typed and that have opened their files."""
        return passphrases(self._kept)

    def read(
        self,
        ask: Ask | None = None,
        *,
        stdin: Callable[[], str] | None = None,
        before_secrets: Callable[[str], None] | None = None,
        attended: bool | None = None,
    ) -> CompiledProfile:
        """Return the profile with all its secrets and warnings. Raises IkeclientError.

        `before_secrets` is told the tunnel's name and may refuse it; then `ask` prompts and `stdin` reads a password.
        With `attended` a person answers during the login as well; None is as the last time.
        """
        from ikeclient.profile.compile import compile_profile
        from ikeclient.profile.importers.open import opened

        self._attended = self._attended if attended is None else attended
        with opened(self._reference, self._overrides, ask=ask, kept=self._kept) as loaded:
            if before_secrets is not None:
                before_secrets(loaded.name)
            with loaded.places.told():
                compiled = compile_profile(
                    loaded.profile,
                    loaded.base_dir,
                    ask,
                    name=loaded.name,
                    stdin_password=stdin() if stdin else None,
                    kept=self._kept,
                    author=loaded.author,
                    attended=self._attended,
                )
        return replace(compiled, warnings=tuple(dict.fromkeys((*loaded.warnings, *compiled.warnings))))

    def read_apart(self, meanwhile: Callable[[], None], read: Callable[[], CompiledProfile]) -> CompiledProfile:
        """Return what `read` does, which calls this object's, in a process of its own; `meanwhile` is called in ours.

        Raises what `read` raises; the class of an IkeclientError may be another one.
        """
        ours, theirs = socket.socketpair()

        def life() -> int:
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            ours.close()
            from ikeclient.profile.message import LARGEST

            theirs.sendall(pack(_CODEC.encode(self._answer(read)), LARGEST))
            return 0

        with ours:
            pid = fork(life)
            theirs.close()
            try:
                meanwhile()
                from ikeclient.profile.message import LARGEST

                message = receive(ours.recv, LARGEST)
                answer: ReadApart | Failure = _CODEC.decode(ReadApart | Failure, message)  # type: ignore[arg-type]
                if isinstance(answer, ReadApart):
                    return self._take(answer)
            except (OSError, ValueError):
                return read()  # whatever it was, it happens here again, where it can be told
            finally:
                ours.close()
                await_end(pid, _GOODBYE)
        raise answer.error(ProfileError)

    def _answer(self, read: Callable[[], CompiledProfile]) -> ReadApart | Failure:
        from ikeclient.profile.message import encode

        try:
            profile = read()
        except IkeclientError as error:
            return Failure.of(error)
        return ReadApart(profile=encode(profile), remembered=self.remembered())

    def _take(self, answer: ReadApart) -> CompiledProfile:
        from ikeclient.profile.message import decode

        self.remember(answer.remembered)
        return decode(answer.profile)

    def remembered(self) -> Remembered:
        """What was typed, piped or taken from the environment until now."""
        return Remembered(
            kept={key: secret.reveal() for key, secret in self._kept.items()},
            attended=self._attended,
            erased=tuple(self._variables - set(os.environb)),
        )

    def remember(self, remembered: Remembered) -> None:
        """Take over what the same object in another process remembers."""
        for name in remembered.erased:
            erase_variable(os.fsdecode(name))
        self._kept = {key: Secret(value) for key, value in remembered.kept.items()}
        self._attended = remembered.attended
