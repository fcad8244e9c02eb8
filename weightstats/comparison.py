"""Two checkpoints of one network side by side; the dict form is the JSON schema `weightstats/comparison/1`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from weightstats.changes import LayerChange, Total, layer_change, total_change
from weightstats.comparison_findings import sentences, two_networks
from weightstats.extras import need
from weightstats.matching import Matching, Unmatched
from weightstats.pairs import PairMoments, together
from weightstats.report import Report, plain
from weightstats.version import VERSION

SCHEMA = "weightstats/comparison/1"


@dataclass(frozen=True, slots=True)
class Comparison:
    """All that `weightstats compare` says of two checkpoints. Made by `make_comparison`."""

    version: str
    """Of weightstats."""

    before: Report
    after: Report
    matched: str
    """How layers were told to be the same."""

    prefixes: tuple[str, str]
    """At the start of the names before and after: one was taken for the other; '' for none."""

    total: Total
    layers: tuple[LayerChange, ...]
    """In the order of the first checkpoint."""

    unmatched: tuple[Unmatched, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """One sentence or several that can be quoted: how far the weights moved, and what became of the law; before
        them, that hardly a layer is in both, if so."""
        return (*self.doubts, *sentences(self.total, self.layers, self.before.fit, self.after.fit))

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against these being two checkpoints of one network; empty where nothing does."""
        doubt = two_networks(self.total.layers, self.counts)
        return (doubt,) if doubt else ()

    @property
    def is_disjoint(self) -> bool:
        """Whether no layer is in both."""
        return not self.layers

    @property
    def counts(self) -> tuple[int, int]:
        """How many layers were looked for, before and after."""
        before = sum(one.where == "before" for one in self.unmatched)
        return len(self.layers) + before, len(self.layers) + len(self.unmatched) - before

    def to_dict(self) -> dict[str, Any]:
        """The comparison as plain dicts, lists and numbers for JSON: no NaN and no infinity, None in their place."""
        return {
            "schema": SCHEMA,
            "version": self.version,
            "before": side_as_dict(self.before),
            "after": side_as_dict(self.after),
            "matched": self.matched,
            "prefixes": plain(self.prefixes),
            "total": plain(self.total),
            "layers": plain(self.layers),
            "unmatched": plain(self.unmatched),
            "findings": plain(self.findings),
        }

    def __str__(self) -> str:
        from weightstats.renderers import comparison_terminal

        return comparison_terminal.render(self, width=100)

    def to_html(self, command: str = "weightstats.compare(...)") -> str:
        """The page that `--format html` writes; `command` is what it says that made it. UsageError without the `report`
        extra."""
        need("report", "a page")
        from weightstats.renderers import comparison_html

        return comparison_html.render(self, command)

    def chart(self) -> Any:
        """Its charts as an `altair.VConcatChart`, which a notebook shows and whose `save` writes pictures. UsageError
        without the `report` extra."""
        need("report", "a chart")
        from weightstats.renderers import comparison_charts

        return comparison_charts.comparison_chart(self)

    def _repr_html_(self) -> str:
        from weightstats.renderers import comparison_notebook

        return comparison_notebook.comparison(self)


def side_as_dict(report: Report) -> dict[str, Any]:
    """What a comparison repeats of the report on one checkpoint."""
    return {
        "checkpoint": plain(report.checkpoint),
        "fit": plain(report.fit),
        "fit_without_scale_free": plain(report.fit_without_scale_free),
        "penalties": {"weight_decay": plain(report.weight_decay), **plain(report.penalties)},
    }


def make_comparison(
    before: Report, after: Report, matching: Matching, measured: Sequence[PairMoments | str]
) -> Comparison:
    """The comparison of two reports; `measured` has the moments of each matched pair, or why there are none."""
    rows_before, rows_after = ({row.name: row for row in report.layers} for report in (before, after))
    unread = {"before": _unread(before), "after": _unread(after)}
    layers: list[LayerChange] = []
    unmatched: list[Unmatched] = []
    found: list[PairMoments] = []
    for matched, moments in zip(matching.matched, measured, strict=True):
        row, other = rows_before.get(matched.before.name), rows_after.get(matched.after.name)
        if row is None or other is None:
            where, name = ("before", matched.before.name) if row is None else ("after", matched.after.name)
            reason = f"could not be read {where}: {unread[where].get(name, 'no reason is known')}"
            unmatched.append(Unmatched(matched.before.name, "before", reason))
            continue
        layers.append(layer_change(matched, row, other, moments))
        if isinstance(moments, PairMoments):
            found.append(moments)
    return Comparison(
        version=VERSION,
        before=before,
        after=after,
        matched=matching.because,
        prefixes=matching.prefixes,
        total=total_change(layers, together(found)),
        layers=tuple(layers),
        unmatched=(*unmatched, *matching.unmatched),
    )


def _unread(report: Report) -> dict[str, str]:
    return {unread.name: unread.reason for unread in report.unread}
