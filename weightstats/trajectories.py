"""Several checkpoints of one network in order; the dict form is the JSON schema `weightstats/trajectory/1`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weightstats.changes import Travelled, travelled
from weightstats.comparison import Comparison
from weightstats.comparison_findings import FEWEST_IN_BOTH, MOST_NAMED, along_the_way, law_between, way
from weightstats.errors import shortened
from weightstats.extras import need
from weightstats.fits import Fit
from weightstats.penalties import PenaltyName
from weightstats.report import CheckpointPart, Report, plain
from weightstats.steps import Step, Unit
from weightstats.version import VERSION

SCHEMA = "weightstats/trajectory/1"


@dataclass(frozen=True, slots=True)
class TrajectoryStep:
    """One of the checkpoints."""

    step: Step
    checkpoint: CheckpointPart
    layers: int
    norm: float
    """‖w‖ of all its layers together; NaN where float64 cannot hold it."""

    fit: Fit
    fit_without_scale_free: Fit | None
    evenness: Mapping[PenaltyName, float]
    """Of each penalty's split over the layers."""

    evenness_fitted: Mapping[PenaltyName, float]
    """The same over the layers that the fit uses."""

    from_first: Travelled | None
    """None for the first step."""

    from_previous: Travelled | None

    @property
    def in_first(self) -> int:
        """Layers that are in the first step too."""
        return 0 if self.from_first is None else self.from_first.matched

    @property
    def is_unchanged(self) -> bool:
        """Whether it has the layers of the previous step, and no element of any has changed."""
        return self.from_previous is not None and self.from_previous.is_unchanged and not self.from_previous.unmatched


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something in the folder that is no step of the trajectory."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Trajectory:
    """All that is said of several checkpoints of one network, in order."""

    version: str
    """Of weightstats."""

    unit: Unit | None
    """What the steps are counted in; None where they are in the order in which they were given."""

    steps: tuple[TrajectoryStep, ...]
    skipped: tuple[Skipped, ...]

    @property
    def findings(self) -> tuple[str, ...]:
        """One sentence or several that can be quoted: how far the weights moved, and what became of the law; before
        them, that hardly a layer of a step is one of the first, if so."""
        first, last = self.steps[0], self.steps[-1]
        if all(step.is_unchanged for step in self.steps[1:]):
            which = "the one layer is" if first.layers == 1 else f"all {first.layers:,} layers are"
            return (f"Nothing changed: {which} the same in all {len(self.steps):,} checkpoints, element for element.",)
        travelled = last.from_first
        found = (*self.doubts, way(travelled))
        if travelled is not None and travelled.is_unchanged and not travelled.unmatched:
            return found
        return (*found, along_the_way(first.step.label, last.step.label, law_between(first.fit, last.fit)))

    @property
    def doubts(self) -> tuple[str, ...]:
        """What speaks against these being checkpoints of one network; empty where nothing does."""
        first, others = self.steps[0], self.steps[1:]
        fewest = [FEWEST_IN_BOTH * min(first.layers, step.layers) for step in others]
        strange = [step for step, few in zip(others, fewest, strict=True) if not step.in_first or step.in_first < few]
        if not strange:
            return ()
        counts = [step.in_first for step in strange]
        most = max(counts)
        in_common = f"no more than {most:,} layer{'' if most == 1 else 's'}" if most else "no layer"
        named = ", ".join(shortened(step.step.label) for step in strange[:MOST_NAMED])
        more = f", … {len(strange) - MOST_NAMED:,} more" if len(strange) > MOST_NAMED else ""
        which = f"{len(strange):,} of {len(others):,} checkpoints after the first ({named}{more})"
        have = "has" if len(strange) == 1 else "have"
        return (f"{which} {have} {in_common} in common with it, and may well be of another network.",)

    @property
    def is_disjoint(self) -> bool:
        """Whether no checkpoint has a layer in common with the first one."""
        return all(step.in_first == 0 for step in self.steps[1:])

    def to_dict(self) -> dict[str, Any]:
        """The trajectory as plain dicts, lists and numbers for JSON: no NaN and no infinity, None in their place."""
        return {"schema": SCHEMA, **plain(self), "findings": plain(self.findings)}

    def __str__(self) -> str:
        from weightstats.renderers import trajectory_text

        return trajectory_text.as_terminal(self, width=100)

    def to_html(self, command: str = "weightstats.trajectory(...)") -> str:
        """The page that `--format html` writes; `command` is what it says that made it. UsageError without the `report`
        extra."""
        need("report", "a page")
        from weightstats.renderers import trajectory_html

        return trajectory_html.render(self, command)

    def chart(self) -> Any:
        """Its charts as an `altair.VConcatChart`, which a notebook shows and whose `save` writes pictures. UsageError
        without the `report` extra."""
        need("report", "a chart")
        from weightstats.renderers import trajectory_charts

        return trajectory_charts.trajectory_chart(self)

    def _repr_html_(self) -> str:
        from weightstats.renderers import comparison_notebook

        return comparison_notebook.trajectory(self)


def make_step(
    step: Step, report: Report, from_first: Comparison | None, from_previous: Comparison | None
) -> TrajectoryStep:
    """One step from the report on it and its comparisons with others, those as the first side."""
    return TrajectoryStep(
        step=step,
        checkpoint=report.checkpoint,
        layers=len(report.layers),
        norm=_norm([layer.sum_of_squares for layer in report.layers]),
        fit=report.fit,
        fit_without_scale_free=report.fit_without_scale_free,
        evenness={penalty: split.evenness for penalty, split in report.penalties.items()},
        evenness_fitted={penalty: split.evenness_fitted for penalty, split in report.penalties.items()},
        from_first=_way(from_first),
        from_previous=_way(from_previous),
    )


def make_trajectory(unit: Unit | None, steps: Sequence[TrajectoryStep], skipped: Sequence[Skipped]) -> Trajectory:
    """The trajectory of these steps, of which there are two or more."""
    return Trajectory(VERSION, unit, tuple(steps), tuple(skipped))


def _norm(squares: Sequence[float]) -> float:
    try:
        return math.sqrt(math.fsum(squares))
    except OverflowError:
        return math.nan


def _way(comparison: Comparison | None) -> Travelled | None:
    return None if comparison is None else travelled(comparison.total, comparison.layers, len(comparison.unmatched))
