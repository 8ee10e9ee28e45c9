"""A split as a file that nginx includes. Values only; nothing here runs nginx."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from ..ports.errors import Permanent
from ..ports.traffic import Split
from .split_text import split_of, text_of

ADDRESS = r"(\d{1,3}(\.\d{1,3}){3}|\[[0-9A-Fa-f:.]+\]):\d{1,5}"
"""What nginx reaches without being told by an ``upstream`` block where it is."""
PLACE = rf"[A-Za-z0-9._-]+|{ADDRESS}"
"""An upstream, or an address: what stands in nginx's file without an escape."""
_SPLIT = "# split: "
_HEAD = "# Written by AutoRetrain, which finds and refuses what is changed here by hand."


@dataclass(frozen=True, slots=True)
class NginxPlaces:
    """Where nginx sends the requests of one model.

    Attributes:
        champion: Upstream, or address, of what serves the champion alias.
        candidate: The same for the candidate; ``{version}`` stands for its version.
        key: Variables of nginx that stand for whoever asks (``$cookie_user``).
        variable: Name that the variables begin with: ``$<variable>`` is where a request goes,
            ``$<variable>_arm`` says ``champion`` or ``candidate``, ``$<variable>_copy`` where a copy goes, or
            is empty.
    """

    champion: str
    candidate: str
    key: str
    variable: str

    def of(self, split: Split) -> str:
        """Where the candidate of a split is.

        Raises:
            Permanent: Its version cannot stand in a name.
        """
        place = self.candidate.replace("{version}", split.candidate)
        if not re.fullmatch(PLACE, place):
            raise Permanent(f"version {split.candidate!r} cannot be part of the name of an upstream of nginx")
        return place


def rendered(places: NginxPlaces, split: Split | None) -> str:
    """Write the file for a split.

    Args:
        places: Where the model's requests may go.
        split: The split; ``None`` sends all to the champion.

    Returns:
        Text for the ``http`` block. The buckets of ``split_clients`` begin with the candidate's, so that a
        weight that is raised takes no key back to the champion.

    Raises:
        Permanent: The candidate's version cannot stand in a name.
    """
    lines = [_HEAD]
    where, arm, copy = [places.champion], ["champion"], ['""']
    if split is not None:
        lines.append(f"{_SPLIT}{text_of(split)}")
        candidate = places.of(split)
        if split.shadow:
            copy = [candidate, '""']
        else:
            where, arm = [candidate, places.champion], ["candidate", "champion"]
    key = f"{_salt(split)}{places.key}"
    share = split.parts if split else 0
    for ending, values in (("", where), ("_arm", arm), ("_copy", copy)):
        lines += [f'split_clients "{key}" ${places.variable}{ending} {{', *_buckets(values, share), "}"]
    return "\n".join(lines) + "\n"


def read(places: NginxPlaces, text: str) -> Split | None:
    """Read the split of a file.

    Returns:
        The split; ``None`` when all go to the champion.

    Raises:
        ValueError: The file is not as we write it.
    """
    told = [line.removeprefix(_SPLIT) for line in text.splitlines() if line.startswith(_SPLIT)]
    split = split_of(told[0]) if told else None
    if text != rendered(places, split):
        raise ValueError("it was changed by hand, or the places of this model were")
    return split


def unused(places: NginxPlaces, split: Split | None, others: str) -> str | None:
    """Say what a configuration lacks for a split to have any effect.

    Args:
        places: Where the model's requests may go.
        split: The split.
        others: nginx's configuration without the model's file.

    Returns:
        What is missing; ``None`` when nothing is.
    """
    said = re.sub(r"(^|(?<=[\s;{}]))#.*$", "", others, flags=re.MULTILINE)  # comments do nothing
    for ending in ("", "_copy") if split is not None and split.shadow else ("",):
        name = f"{places.variable}{ending}"
        if not re.search(rf"\$({name}\b|\{{{name}\}})", said):
            return f"nothing in nginx's configuration uses ${name}"
    for place in [places.champion] + ([places.of(split)] if split else []):
        is_known = re.fullmatch(ADDRESS, place) or re.search(rf"\bupstream\s+{re.escape(place)}\s*{{", said)
        if not is_known:
            return f"nginx's configuration has no upstream {place}"
    return None


def _buckets(values: list[str], share: int) -> Iterator[str]:
    """Values by share: the first gets it, the last what is left; nginx takes no share of nothing."""
    first, last = values[0], values[-1]
    if first != last and share > 0:
        yield f"    {share / 100:.2f}% {first};"
    if first == last or share < 10_000:
        yield f"    * {last};"


def _salt(split: Split | None) -> str:
    """The salt without anything that nginx would read."""
    return hashlib.sha256(split.salt.encode("utf-8", "surrogatepass")).hexdigest()[:16] if split else ""
