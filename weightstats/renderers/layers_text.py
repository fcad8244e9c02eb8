"""What `weightstats layers` shows: each stored tensor, the layers that it holds, and why it was taken for them."""

import csv
import io
import json
import textwrap
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from rich.cells import cell_len, chop_cells

from weightstats.checkpoint import Unread
from weightstats.errors import counted
from weightstats.listing import ListedLayer, ListedOther, Listing
from weightstats.renderers import words
from weightstats.renderers.csv_text import cell

WIDE = 120
"""Columns of a terminal from which on an entry is one line."""

WIDEST_NAME = 0.36
"""Of a wide terminal's columns: what names may take, or more where the reasons need less than NARROWEST_WHY columns."""

NARROWEST_WHY = 48
LEAST_WHY = 40
"""Columns below which reasons are better put on lines of their own."""

MINIMUM = 20
_HANGING = 4
"""Columns by which a line is moved in that continues another."""

HEAD = ("tensor", "shape", "dtype", "kind", "n_in", "n_out", "fans from", "why")
_RIGHT = (4, 5)
_GAP = 2

COLUMNS = (
    *("list", "name", "part_of", "kind", "shape", "dtype", "n_in", "n_out", "fans_from", "because"),
    *("left_out_because", "scale_free_because", "merged_because", "tied_to", "stored_shape", "stored_dtype"),
)
"""The header line of CSV."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the table, as text."""

    name: str
    shape: str = ""
    dtype: str = ""
    kind: str = ""
    n_in: str = ""
    n_out: str = ""
    fans_from: str = ""
    why: str = ""
    is_part: bool = False

    @property
    def cells(self) -> tuple[str, ...]:
        """In the order of HEAD."""
        name = f"  {self.name}" if self.is_part else self.name
        return name, self.shape, self.dtype, self.kind, self.n_in, self.n_out, self.fans_from, self.why


def as_json(listing: Listing) -> str:
    """The listing as one JSON object; names are escaped to ASCII, so that no terminal acts on them."""
    return json.dumps(listing.to_dict(), allow_nan=False, indent=2) + "\n"


def as_csv(listing: Listing) -> str:
    """One line for each layer, other and unread tensor; texts are escaped as in the CSV of a report."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for name, items in (("layer", listing.layers), ("other", listing.others), ("unread", listing.unread)):
        for item in items:
            writer.writerow([cell(value) for value in _values(name, item)])
    return text.getvalue()


def _values(name: str, item: ListedLayer | ListedOther | Unread) -> Iterator[object]:
    values = {field.name: getattr(item, field.name) for field in fields(item)} | {"list": name}
    values["because"] = values.get("because", values.get("reason"))
    for column in COLUMNS:
        value = values.get(column)
        if isinstance(value, tuple):
            value = ("x" if "shape" in column else " ").join(map(str, value))
        yield value


def as_terminal(listing: Listing, width: int, *, every: bool = False, warnings: bool = True) -> str:
    """The listing as lines of at most `width` characters.

    Where there are many, tensors that differ only in the numbers of their names are one entry, unless `every`.
    Without `warnings`, those are left to whoever shows them elsewhere.
    """
    parts = (listing.tensors_with_layers, len(listing.others), len(listing.unread))
    fold = not every and max(len(listing.layers), *parts) > words.FOLD_ABOVE
    sections = {
        "Layers": _layers(listing.layers, fold),
        "Not layers": _others(listing.others, fold),
        "Unread": _unread(listing.unread, fold),
    }
    lines = [part for line in _header(listing) for part in _wrapped(line, width)]
    laid_out = _in_columns if all(_has_columns(entries, width) for entries in sections.values()) else _stacked
    for title, entries in sections.items():
        if entries:
            lines += ["", f"{title}:", *laid_out(entries, width)]
    lines += ["", *_wrapped(_sum(listing), width)]
    for warning in listing.warnings if warnings else ():
        lines += _wrapped(f"Warning: {words.printable(warning)}", width)
    if listing.damage is not None and warnings:
        lines += _wrapped(f"Damage: {words.printable(listing.damage)}", width)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _header(listing: Listing) -> Iterator[str]:
    counts = f"{words.size(listing.bytes)}, {counted(listing.tensors, 'tensor', 'tensors')}"
    yield f"{words.printable(listing.location)}: {listing.format}, {counts}"
    yield from words.network(listing.root, listing.root_because, listing.dropped_from_names)


def _sum(listing: Listing) -> str:
    layers = words.with_layers(listing.tensors_with_layers, len(listing.layers))
    tensors, others = counted(listing.tensors, "tensor", "tensors"), counted(len(listing.others), "other", "others")
    return f"{tensors} = {layers} + {others} + {len(listing.unread):,} unread."


def _layers(layers: Sequence[ListedLayer], fold: bool) -> list[Entry]:
    """An entry for each stored tensor, with one for each of its parts below it."""
    stored = _grouped(layers, lambda layer: layer.stored_name)

    def key(members: list[ListedLayer]) -> Hashable:
        parts = tuple((_part(layer), *_alike(layer)) for layer in members)
        return words.template(members[0].stored_name), members[0].stored_shape, members[0].stored_dtype, parts

    entries: list[Entry] = []
    for group in _grouped(stored, key) if fold else [[members] for members in stored]:
        for alike in words.wholes(group, lambda members: members[0].stored_name):
            entries += _tensor(alike, fold)
    return entries


def _tensor(alike: Sequence[Sequence[ListedLayer]], fold: bool) -> Iterator[Entry]:
    """The layers in a stored tensor, or in each of several that are shown as one."""
    first = alike[0][0]
    name = words.folded_name([members[0].stored_name for members in alike])
    why = words.folded_text([_why(members[0]) for members in alike])
    stored = words.shape(first.stored_shape)
    if first.part_of is None:
        encoded = first.stored_dtype != first.dtype or first.stored_shape != first.shape
        yield _entry(name, first, f"{why}; stored as {stored} {first.stored_dtype}" if encoded else why)
        return
    count = len(alike[0])
    kind = f"{count:,} layers" if count > 1 else "1 layer"
    yield Entry(name, stored, first.stored_dtype, kind, "", "", first.fans_from, why)
    for places in _grouped(range(count), lambda place: _part_key(alike[0][place], place, fold)):
        parts = [alike[0][place] for place in places]
        own = words.folded_text([_why(members[place]) for members in alike for place in places])
        label = words.folded_name([_part(part) for part in parts])
        yield replace(_entry(label, parts[0], own if own != why else ""), dtype="", fans_from="", is_part=True)


def _part_key(part: ListedLayer, place: int, fold: bool) -> Hashable:
    return (words.template(_part(part)), *_alike(part)) if fold else place


def _entry(name: str, layer: ListedLayer, why: str) -> Entry:
    fans = (f"{layer.n_in:,}", f"{layer.n_out:,}")
    return Entry(name, words.shape(layer.shape), layer.dtype, words.printable(layer.kind), *fans, layer.fans_from, why)


def _part(layer: ListedLayer) -> str:
    """`[q]`."""
    return layer.name.removeprefix(layer.stored_name)


def _alike(layer: ListedLayer) -> tuple[Hashable, ...]:
    """What layers share that are shown as one."""
    fans = (layer.n_in, layer.n_out, layer.fans_from)
    return (layer.kind, layer.shape, layer.dtype, *fans, words.loose_template(_why(layer)))


def _why(layer: ListedLayer) -> str:
    """All reasons that the listing has for a layer."""
    reasons = [layer.because]
    if layer.left_out_because is not None:
        reasons.append(f"not in the fit: {layer.left_out_because}")
    if layer.scale_free_because is not None:
        reasons.append(f"its scale does not matter: {layer.scale_free_because}")
    if layer.merged_because is not None:
        reasons.append(f"to it is added {layer.merged_because}")
    if layer.tied_to:
        reasons.append(f"also stored as {', '.join(name.removesuffix(_part(layer)) for name in layer.tied_to)}")
    return "; ".join(reasons)


def _others(others: Sequence[ListedOther], fold: bool) -> list[Entry]:
    def key(other: ListedOther) -> Hashable:
        alike = (other.kind, other.shape, other.dtype)
        return words.loose_template(other.name), *alike, words.loose_template(other.because)

    return [
        Entry(
            words.folded_name([other.name for other in group], loose=True),
            words.shape(group[0].shape),
            group[0].dtype,
            words.printable(group[0].kind),
            why=words.folded_text([other.because for other in group]),
        )
        for alike in (_grouped(others, key) if fold else [[other] for other in others])
        for group in words.wholes(alike, lambda other: other.name, loose=True)
    ]


def _unread(unread: Sequence[Unread], fold: bool) -> list[Entry]:
    def key(one: Unread) -> Hashable:
        return words.loose_template(one.name), words.loose_template(one.reason)

    return [
        Entry(
            words.folded_name([one.name for one in group], loose=True),
            why=words.folded_text([one.reason for one in group]),
        )
        for alike in (_grouped(unread, key) if fold else [[one] for one in unread])
        for group in words.wholes(alike, lambda one: one.name, loose=True)
    ]


def _grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """The items that have one key together, in the order of their first."""
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())


def _in_columns(entries: Sequence[Entry], width: int) -> Iterator[str]:
    """A line an entry, more where a name or a reason is long."""
    rows = [entry.cells for entry in entries]
    used = [any(row[index] for row in rows) for index in range(len(HEAD))]
    titles = [title if shown else "" for title, shown in zip(HEAD, used, strict=True)]
    widths = _widths(entries, width)
    for row in (titles, *rows):
        name, why = _wrapped(row[0], widths[0]), _wrapped(row[-1], widths[-1])
        for index in range(max(len(name), len(why))):
            middle = row[1:-1] if index == 0 else [""] * (len(HEAD) - 2)
            texts = (*name[index : index + 1], *[""] * (index >= len(name)), *middle, *(why[index : index + 1]))
            cells = [_padded(text, widths[place], place) for place, text in enumerate(texts) if used[place]]
            yield (" " * _GAP).join(cells)


def _widths(entries: Sequence[Entry], width: int) -> list[int]:
    """Of each column, so that a line has at most `width`; 0 for one that is empty throughout."""
    rows = [entry.cells for entry in entries]
    used = [any(row[index] for row in rows) for index in range(len(HEAD))]
    titles = [title if shown else "" for title, shown in zip(HEAD, used, strict=True)]
    widths = [max(cell_len(text) for text in column) for column in zip(titles, *rows, strict=True)]
    room = width - sum(widths[1:-1]) - _GAP * (sum(used) - 1)
    reason = widths[-1]
    widths[0] = min(widths[0], max(int(WIDEST_NAME * width), room - min(reason, NARROWEST_WHY)))
    widths[-1] = max(MINIMUM, room - widths[0])
    return widths


def _has_columns(entries: Sequence[Entry], width: int) -> bool:
    """Whether columns leave the reasons room, on a terminal of this width."""
    if width < WIDE or not entries:
        return width >= WIDE
    longest = max(cell_len(entry.why) for entry in entries)
    return _widths(entries, width)[-1] >= min(longest, LEAST_WHY)


def _padded(text: str, width: int, place: int) -> str:
    filling = " " * (width - cell_len(text))
    return filling + text if place in _RIGHT else text + filling


def _stacked(entries: Sequence[Entry], width: int) -> Iterator[str]:
    """The name of a layer, what it is, and why, each on a line of its own; a part is one line, and so is what is said
    of anything else."""
    for entry in entries:
        stored = " ".join(part for part in (entry.shape, entry.dtype) if part)
        if entry.is_part:
            fans = f"{entry.name} {entry.kind} {stored}, {entry.n_in} → {entry.n_out}"
            yield from _indented(fans + (f": {entry.why}" if entry.why else ""), width, 4)
            continue
        yield from _indented(entry.name, width, 0)
        if not entry.fans_from:
            what = f"{entry.kind} {stored}: " if entry.kind else ""
            yield from _indented(f"{what}{entry.why}", width, 2)
            continue
        fans = f"{entry.kind} {stored}, {entry.n_in} → {entry.n_out}" if entry.n_in else f"{stored}, {entry.kind}"
        yield from _indented(fans, width, 2)
        yield from _indented(f"fans from {entry.fans_from}: {entry.why}", width, 2)


def _indented(text: str, width: int, indent: int) -> Iterator[str]:
    for line in _wrapped(text, width - indent):
        yield " " * indent + line


def _wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most `width` columns, broken between words where that is possible; those after the first
    are moved in."""
    if cell_len(text) <= width:
        return [text]
    lines = textwrap.wrap(text, width - _HANGING, break_long_words=False, break_on_hyphens=False)
    pieces = [piece for line in lines for piece in chop_cells(line, width - _HANGING)]
    return [piece if index == 0 else " " * _HANGING + piece for index, piece in enumerate(pieces)]
