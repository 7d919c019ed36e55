"""An error on its way from one of our processes to another."""

from __future__ import annotations

from ikeclient.errors import IkeclientError
from ikeclient.lazy_dataclass import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What was asked for was not done: the lines of the error, and its exit code."""

    message: str
    reason: str | None
    hint: str | None
    exit_code: int

    @classmethod
    def of(cls, error: IkeclientError) -> Failure:
        """Describe an error."""
        return cls(message=error.message, reason=error.reason, hint=error.hint, exit_code=error.exit_code)

    def error(self, kind: type[IkeclientError] = IkeclientError) -> IkeclientError:
        """Return the error again, as a `kind` of it and with its own exit code."""
        return kind(self.message, reason=self.reason, hint=self.hint, exit_code=self.exit_code)
