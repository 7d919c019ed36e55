"""Where a tunnel's profile and its secrets are read, at the start and again after SIGHUP."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from ikeclient.profile.compile import CompiledProfile, compile_profile
from ikeclient.profile.importers.open import opened
from ikeclient.profile.secrets.secrets import Ask, Secret, forget_typed


class ProfileSource:
    """A profile by name, path or file to import, with overrides (KEY=VALUE), to be read any number of times.

    What was typed, piped or taken from the environment is remembered for the next time.
    """

    def __init__(self, reference: str | None, overrides: Sequence[str]) -> None:
        self._reference = reference
        self._overrides = tuple(overrides)
        self._kept: dict[str, Secret] = {}
        self._attended = False

    def forget_typed(self) -> bool:
        """Forget what was typed, so that it is asked for again; false if nothing was."""
        return forget_typed(self._kept)

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
        self._attended = self._attended if attended is None else attended
        with opened(self._reference, self._overrides, ask=ask, kept=self._kept) as loaded:
            if before_secrets is not None:
                before_secrets(loaded.name)
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
