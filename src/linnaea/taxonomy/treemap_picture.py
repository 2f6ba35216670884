"""Draw a clade as a treemap of two levels, for a picture file (PNG, SVG or PDF)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from linnaea.errors import UsageError
from linnaea.page import plot_label
from linnaea.storage import atomic_path
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.tree import ROOT, TaxonTree
from linnaea.taxonomy.treemap import Boxes, choose_boxes, colour_boxes, count_species, lighter, name_of

PAGE_SUFFIXES, PICTURE_SUFFIXES = (".html", ".htm"), (".png", ".svg", ".pdf")
WIDTH, HEIGHT, TITLE, DPI = 12.0, 8.0, 0.4, 160
"""The size of the picture and the height of its title, in inches, and its resolution."""
PER_TAXON = 40
"""The largest number of boxes within one taxon; the rest are combined into one box."""


class Rectangle(NamedTuple):
    """A place on the picture, in inches from the lower left corner."""

    x: float
    y: float
    width: float
    height: float


def check_plot_path(path: Path) -> None:
    """Raise a UsageError if the ending of ``path`` is neither that of a page nor of a picture."""
    known = PAGE_SUFFIXES[:1] + PICTURE_SUFFIXES
    if path.suffix.lower() not in PAGE_SUFFIXES + PICTURE_SUFFIXES:
        raise UsageError(f"--plot {path}: must end in {', '.join(known)}")


def write_treemap_picture(path: Path, tree: TaxonTree, top: int, *, source: str) -> None:
    """Write the picture of a clade; ``source`` is its checklist and version."""
    from matplotlib.figure import Figure

    boxes = choose_boxes(tree, top, most_children=PER_TAXON)
    colours = [lighter(colour, 0.3) for colour in colour_boxes(boxes)]  # names are written on them
    figure = Figure(figsize=(WIDTH, HEIGHT), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
    axes.axis("off")
    rank = "" if top == ROOT else f"{RANK_LABELS[tree.rank[top]]}, "
    n_species = int(count_species(tree)[top])
    axes.text(0.06, HEIGHT - TITLE / 2, plot_label(f"{name_of(tree, top)}: {rank}{n_species:,} species ({source})"),
              fontsize=13, va="center")  # fmt: skip
    whole = Rectangle(0.06, 0.06, WIDTH - 0.12, HEIGHT - TITLE - 0.06)
    for box, outer in _children(boxes, 0, whole):
        _draw(axes, outer, colours[box], "white", 1.6)
        head = 0.2 if outer.height > 0.5 and outer.width > 0.6 else 0.0
        inner = list(_children(boxes, box, Rectangle(outer.x, outer.y, outer.width, outer.height - head)))
        for child, place in inner:
            _draw(axes, place, colours[child], "white", 0.4)
            _write(axes, boxes.label[child], place, italic=_is_italic(tree, boxes.node[child]))
        shown = Rectangle(outer.x, outer.y + outer.height - head, outer.width, head) if inner and head else outer
        if head or not inner:
            _write(axes, boxes.label[box], shown, italic=_is_italic(tree, boxes.node[box]), bold=bool(inner))
    with atomic_path(path) as partial:
        facts: dict[str, Any] = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
        kind = path.suffix.lower()
        figure.savefig(partial, format=kind[1:], dpi=DPI, metadata=facts[kind])


def _children(boxes: Boxes, parent: int, place: Rectangle) -> list[tuple[int, Rectangle]]:
    """Return the boxes within a box, the largest first, with their places."""
    inside = sorted((box for box, of in enumerate(boxes.parent) if of == parent), key=lambda box: -boxes.size[box])
    return list(zip(inside, lay_out([boxes.size[box] for box in inside], place), strict=True))


def lay_out(sizes: Sequence[float], place: Rectangle) -> list[Rectangle]:
    """Return a rectangle for each size, largest first, that together fill a place and are as square as possible.

    The method is that of Bruls, Huizing and van Wijk, Squarified treemaps, 2000.
    """
    found: list[Rectangle] = []
    x, y, width, height = place
    rest = [size * width * height / sum(sizes) for size in sizes]
    while rest:
        side = min(width, height)
        n = 1
        while n < len(rest) and _longest(rest[: n + 1], side) <= _longest(rest[:n], side):
            n += 1
        row, rest = rest[:n], rest[n:]
        thickness, along = sum(row) / side, 0.0
        for area in row:
            length = area / thickness
            if width >= height:
                found.append(Rectangle(x, y + height - along - length, thickness, length))
            else:
                found.append(Rectangle(x + along, y + height - thickness, length, thickness))
            along += length
        if width >= height:
            x, width = x + thickness, width - thickness
        else:
            height -= thickness
    return found


def _longest(areas: Sequence[float], side: float) -> float:
    """Return the ratio of the sides of the least square rectangle if areas are laid along a side."""
    thickness = sum(areas) / side
    return max(max(thickness**2 / area, area / thickness**2) for area in areas)


def _draw(axes: Any, place: Rectangle, colour: str, edge: str, line: float) -> None:
    from matplotlib.patches import Rectangle as Patch

    axes.add_patch(Patch(place[:2], place.width, place.height, facecolor=colour, edgecolor=edge, linewidth=line))


def _write(axes: Any, text: str, place: Rectangle, *, italic: bool, bold: bool = False) -> None:
    """Write a label into a box as large as it fits, in one or two lines or turned; leave it out if there is no room."""
    width, height = place.width - 0.08, place.height - 0.04
    ways = [(_size(lines, *room), turn, "\n".join(lines)) for lines in ((text,), (*text.split(" ", 1),))
            for turn, room in ((0, (width, height)), (90, (height, width)))]  # fmt: skip
    size, turn, shown = max(ways, key=lambda way: way[0] * (0.6 if way[1] else 1.0))
    if size < 5:
        return
    axes.text(place.x + place.width / 2, place.y + place.height / 2, plot_label(shown), fontsize=size, ha="center",
              va="center", rotation=turn, style="italic" if italic else "normal",
              weight="bold" if bold else "normal", color="#14201a")  # fmt: skip


def _size(lines: Sequence[str], width: float, height: float) -> float:
    """Return the size in points at which lines fit into a room, at most 11."""
    return min(11.0, height * 72 / (1.25 * len(lines)), width * 72 / (0.62 * max(1, *map(len, lines))))


def _is_italic(tree: TaxonTree, node: int) -> bool:
    return node >= 0 and tree.rank[node] >= Rank.GENUS
