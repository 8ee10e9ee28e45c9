"""The traffic of a model: which share of its requests the candidate gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

_PARTS = 10_000


@dataclass(frozen=True, slots=True)
class Split:
    """How the requests of a model are shared between its champion and a candidate.

    The share is one of request keys (a user, a device), so that one key has one answer: a key goes to the
    candidate when its place in 0..1, a hash of salt and key, is below ``weight``. Raised under the same salt,
    a weight takes nobody back to the champion. A router that sees no keys shares requests by chance, and says
    so.

    Attributes:
        model: Name of the model.
        champion: Version that serves all other requests.
        candidate: Version that gets the share.
        weight: Share that the candidate gets, 0 to 1, in steps of 0.0001.
        shadow: Whether the candidate gets copies only: the champion answers every request, and nobody sees
            what the candidate says.
        salt: Makes who goes to the candidate another choice for every canary. Never a secret.

    Raises:
        ValueError: A version is empty or both are the same, or the weight is no such share.
    """

    model: str
    champion: str
    candidate: str
    weight: float
    shadow: bool = False
    salt: str = ""

    def __post_init__(self) -> None:
        if not self.champion or not self.candidate or self.champion == self.candidate:
            versions = f"{self.champion!r} and {self.candidate!r}"
            raise ValueError(f"a split is between two versions, not between {versions}")
        steps = self.weight * _PARTS
        if not 0 <= steps <= _PARTS or abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"a weight is between 0 and 1 in steps of {1 / _PARTS}, not {self.weight}")
        object.__setattr__(self, "weight", round(steps) / _PARTS)  # 0.1 + 0.2 is 0.3: splits are compared

    @property
    def parts(self) -> int:
        """The weight in ten-thousandths."""
        return round(self.weight * _PARTS)

    def __str__(self) -> str:
        how = "copied" if self.shadow else "sent"
        return f"{self.weight:.2%} {how} to version {self.candidate}, beside version {self.champion}"


class TrafficRouter(Protocol):
    """Shares the requests of models between two versions. Without a split the champion serves everybody.

    Where a version runs is the user's business: the champion's place serves whatever the champion alias says,
    so that a router at rest knows of no version.
    """

    def in_force(self, model: str) -> Split | None:
        """Read the split that a model's requests are under.

        Returns:
            The split; ``None`` when all go to the champion.

        Raises:
            SplitMoved: What is there was changed by somebody else into what is no split of ours.
            Temporary: The router cannot be reached.
            Permanent: It refuses, or is not set up for this model.
        """
        ...

    def apply(self, split: Split, expected: Split | None) -> None:
        """Put a split in force, if the expected one still is.

        Applying what is in force succeeds and makes sure of it: a call that died halfway is completed by
        calling again.

        Args:
            split: What to put in force.
            expected: Split that must be in force now; ``None`` for "all to the champion".

        Raises:
            SplitMoved: Another one is in force; nothing was changed.
            Temporary: The router cannot be reached; it may or may not have been changed.
            Permanent: It refuses; the split before is still in force.
        """
        ...

    def clear(self, model: str, expected: Split) -> None:
        """Send all requests of a model to the champion, if the expected split still is in force.

        Clearing what was cleared succeeds and makes sure of it.

        Args:
            model: Name of the model.
            expected: Split that must be in force now.

        Raises:
            SplitMoved: Another one is in force; nothing was changed.
            Temporary: The router cannot be reached; it may or may not have been changed.
            Permanent: It refuses; the split before is still in force.
        """
        ...

    def reset(self, model: str) -> None:
        """Send all requests of a model to the champion, whatever is in force: a person's way out.

        Raises:
            Temporary: The router cannot be reached; it may or may not have been changed.
            Permanent: It refuses, or is not set up for this model.
        """
        ...
