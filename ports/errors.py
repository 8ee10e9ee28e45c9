"""The one tree of errors that may cross a port.

An adapter maps every vendor's exception to one of these. The controller decides by the class alone:
what is temporary is asked again, what is permanent ends the job (or leaves the signal unknown) with the
message as its reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .credentials import without_credentials

_LONGEST_WAIT = 86_400.0


class AutoRetrainError(Exception):
    """Root of every error this package raises on purpose. Its text is written for a person.

    Args:
        message: What is wrong. It ends in logs, entries and notices: credentials are taken out of it.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(without_credentials(message))


class Temporary(AutoRetrainError):
    """The same call may succeed later: a server away, a timeout, a full queue or disk.

    Args:
        message: What failed, in words, without secrets.
        retry_after: Seconds to wait at least, when the other side said so; ``None`` when it did not. No
            other side can ask for more than a day.
    """

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        asked = retry_after is not None and retry_after > 0  # false for what is no number, too
        self.retry_after = min(retry_after, _LONGEST_WAIT) if asked and retry_after else None


class Permanent(AutoRetrainError):
    """Asking again changes nothing: a missing column, a refused credential, a damaged artefact."""


class MissingExtra(Permanent):
    """An optional library is not installed.

    Args:
        library: The import name that is missing.
        extra: The extra of this package that brings it.
    """

    def __init__(self, library: str, extra: str) -> None:
        super().__init__(f"{library} is not installed: pip install 'autoretrain[{extra}]'")
        self.library = library
        self.extra = extra


class Flaws(ValueError):
    """Several things wrong with one section of settings, for its validator to raise.

    Args:
        flaws: The field of each, from the section on, and what to write instead.
    """

    def __init__(self, flaws: Sequence[tuple[str, str]]) -> None:
        super().__init__("; ".join(f"{field}: {fix}" for field, fix in flaws))
        self.flaws = tuple(flaws)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with what a user wrote.

    Attributes:
        where: Path of the field, as the user would look for it (``models.x.trigger.drift_threshold``).
        value: What stands there, shortened; empty when the field is absent.
        fix: What to write instead.
    """

    where: str
    value: str
    fix: str

    def __str__(self) -> str:
        found = f" = {self.value}" if self.value else ""
        return f"{self.where}{found}: {self.fix}"


class ConfigurationError(Permanent):
    """Settings or arguments that cannot be used; names every problem at once.

    Args:
        problems: All that is wrong, in the order of the file. Never empty.
    """

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class JobAlreadyOpen(Permanent):
    """A model has at most one open job.

    Args:
        model: Name of the model.
        job_id: The job that is open.
    """

    def __init__(self, model: str, job_id: str) -> None:
        super().__init__(f"{model} already has an open job: {job_id}")
        self.model = model
        self.job_id = job_id


class UnknownModel(Permanent):
    """The name is not in the fleet."""


class UnknownJob(Permanent):
    """No ledger stream holds a job of this id."""


class Refused(Permanent):
    """A person's request that the rules do not allow now; the text says which rule."""


class Overtaken(AutoRetrainError):
    """An append expected a sequence number that is no longer the head: read again and decide again."""


class LeaseLost(AutoRetrainError):
    """An append carried an epoch that is no longer the current lease: stop acting on the model at once."""


class LimitReached(AutoRetrainError):
    """An append wanted a unit of something limited across models, and none is left.

    Args:
        scope: What is limited.
        limit: How many units there are.
    """

    def __init__(self, scope: str, limit: int) -> None:
        super().__init__(f"{scope}: all {limit} are taken")
        self.scope = scope
        self.limit = limit


class DuplicateKey(AutoRetrainError):
    """The stream already holds an entry of this key: the thing was done before."""


class ChampionMoved(Permanent):
    """The champion alias is not where it was expected, so nothing was written.

    Args:
        model: Name of the model.
        expected: Version that was expected to serve; ``None`` for "no champion".
        found: Version that the alias points at; ``None`` when there is none.
    """

    def __init__(self, model: str, expected: str | None, found: str | None) -> None:
        super().__init__(f"{model}: the champion is version {found}, not {expected}; nothing was changed")
        self.model = model
        self.expected = expected
        self.found = found


class SplitMoved(Permanent):
    """The traffic of a model is not shared as expected, so nothing was changed.

    Args:
        model: Name of the model.
        expected: In words, what was expected to be in force.
        found: In words, what is.
    """

    def __init__(self, model: str, expected: object, found: object) -> None:
        self.model = model
        self.expected = _in_words(expected)
        self.found = _in_words(found)
        wanted = f"in force is {self.found}, not {self.expected}"
        super().__init__(f"{model}: {wanted}; nothing was changed")


def _in_words(split: object) -> str:
    return "no split" if split is None else str(split)
