"""From a matplotlib figure to SVG that lives inside a page: themed by CSS, named for screen readers."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#1b1f24", "#5b6470", "#d5dae0"
BLUE, SKY, GREEN = "#0072b2", "#56b4e9", "#009e73"
ORANGE, RED, PURPLE = "#e69f00", "#d55e00", "#cc79a7"

_VARIABLES = {
    INK: "ink", MUTED: "muted", GRID: "grid", BLUE: "blue", SKY: "sky",
    GREEN: "green", ORANGE: "orange", RED: "red", PURPLE: "purple",
}  # fmt: skip
"""Colours of Okabe and Ito, by the CSS variable that replaces each, so that dark pages can lighten them."""

_REFERENCE = re.compile(r"#([A-Za-z][\w.-]*)")
_FONT_FAMILY = re.compile(r"font-family:[^;]*;?")
_NUMBER = re.compile(r"-?\d+\.\d{2,}")


def inline(figure: Figure, identity: str, label: str) -> str:
    """Write a figure as an ``<svg>`` element.

    Text stays text (it can be searched, read aloud and takes the page's font), colours become CSS variables,
    ids are unique under ``identity``, and nothing refers to the outside.

    Args:
        figure: What to write; it is not changed.
        identity: Prefix of the ids, unique in the page.
        label: What the picture shows, in words.
    """
    root = ElementTree.fromstring(_written(figure))  # noqa: S314  (matplotlib's own output)
    for parent in root.iter():
        for child in [c for c in parent if _local(c.tag) in ("metadata", "style")]:
            parent.remove(child)
    ids = _ids_in_use(root, identity)
    for element in root.iter():
        element.tag = _local(element.tag)
        kept = {_local(name): value for name, value in element.attrib.items() if name != "id"}
        if element.get("id") in ids:
            kept["id"] = ids[element.attrib["id"]]
        element.attrib = {name: _rewritten(name, value, ids) for name, value in kept.items()}
        element.tail = None
        if element.tag != "text":
            element.text = None
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": label}
    return ElementTree.tostring(root, encoding="unicode")


def _written(figure: Figure) -> str:
    import matplotlib

    buffer = io.StringIO()
    # The two settings have no argument; they are put back at once.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "autoretrain"}):
        figure.savefig(buffer, format="svg", transparent=True)
    return buffer.getvalue()


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _ids_in_use(root: ElementTree.Element, identity: str) -> dict[str, str]:
    """New ids of the elements that others refer to; matplotlib names every group, alike in each figure."""
    values = [value for element in root.iter() for name, value in element.attrib.items() if name != "id"]
    referred = dict.fromkeys(name for value in values for name in _REFERENCE.findall(value))
    present = {element.get("id") for element in root.iter()}
    return {name: f"{identity}-{n}" for n, name in enumerate(name for name in referred if name in present)}


def _rewritten(name: str, value: str, ids: dict[str, str]) -> str:
    if name == "style":
        value = _FONT_FAMILY.sub("", value)
        for colour, variable in _VARIABLES.items():
            value = value.replace(colour, f"var(--{variable})")
    if name in ("d", "x", "y", "transform"):
        value = _NUMBER.sub(lambda number: f"{float(number[0]):.1f}", value).replace("\n", " ")
    return _REFERENCE.sub(lambda found: f"#{ids.get(found[1], found[1])}", value)
