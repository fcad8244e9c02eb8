"""Several checkpoints of one network in order; the dict form is the JSON schema `weightstats/trajectory/1`."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from weightstats.changes import Travelled, travelled
from weightstats.comparison import Comparison
from weightstats.comparison_findings import law_between, way
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
        """Two sentences that can be quoted: how far the weights moved, and what became of the law."""
        first, last = self.steps[0], self.steps[-1]
        law = f"From {first.step.label} to {last.step.label}: {law_between(first.fit, last.fit)}"
        return way(last.from_first), law

    def to_dict(self) -> dict[str, Any]:
        """The trajectory as plain dicts, lists and numbers for JSON: no NaN and no infinity, None in their place."""
        return {"schema": SCHEMA, **plain(self), "findings": plain(self.findings)}

    def __str__(self) -> str:
        from weightstats.renderers import trajectory_text

        return trajectory_text.as_terminal(self, width=100)


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
    return None if comparison is None else travelled(comparison.total, len(comparison.unmatched))
