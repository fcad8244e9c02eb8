"""The pipeline for several checkpoints of one network, in the order in which it runs: locations to what changed."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from weightstats.budget import beyond_budget
from weightstats.comparison import Comparison, make_comparison
from weightstats.errors import CheckpointError, UsageError, quoted
from weightstats.inspection import Location, Opened, limited, opened, report_on
from weightstats.laws import DEFAULT_LAW, Law, law_of
from weightstats.matching import Candidate, Matching, match_layers
from weightstats.pairs import PairMoments, measure_pairs
from weightstats.penalties import DEFAULT_WEIGHT_DECAY
from weightstats.places import open_folder
from weightstats.report import Report
from weightstats.rules import Rules, RulesGiven, rules_from
from weightstats.steps import Step, in_order, series_of, steps_of
from weightstats.trajectories import Skipped, Trajectory, TrajectoryStep, make_step, make_trajectory

MOST_NAMED = 5
"""Series of a folder that a message names."""

Progress = Callable[[int, int], None]


def compare(
    before: Location,
    after: Location,
    *,
    law: str = DEFAULT_LAW,
    root: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    as_stored: bool = False,
    rules: RulesGiven = None,
    limits: Mapping[str, int] = MappingProxyType({}),
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """How the layers of one network changed from `before` to `after`: two checkpoints, or live torch.nn.Modules.

    Each is reported on as by `inspect`, with the same arguments for both. Layers are matched by their names; those of
    both are compared element by element, whatever their dtypes, encodings and orders of storage, and all others are
    listed with the reason. `progress` is called with the bytes read so far and the bytes to read.

    Raises what `inspect` raises, for either of the two.
    """
    with limited(limits):
        how = _How((include, exclude), (as_stored, rules_from(rules)), root, law_of(law), workers)
        sides = how.opened(before), how.opened(after)
        matching = _matching(*sides)
        sizes = [side.bytes_to_read for side in sides]
        sizes.append(sum(matched.pair.stored_bytes for matched in matching.matched))
        passed = _Passes(sum(sizes), progress)
        reports = []
        for side, size in zip(sides, sizes, strict=False):
            reports.append(how.report(side, passed.advance))
            passed.end(size)
        measured = how.measured(matching, sides, passed.advance)
        return make_comparison(reports[0], reports[1], matching, measured)


def trajectory(
    locations: "str | os.PathLike[str] | Sequence[Location]",
    *,
    law: str = DEFAULT_LAW,
    root: str | None = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    as_stored: bool = False,
    rules: RulesGiven = None,
    limits: Mapping[str, int] = MappingProxyType({}),
    workers: int | None = None,
    progress: Progress = lambda done, total: None,
) -> Trajectory:
    """How one network changed over several checkpoints.

    `locations` are two or more, in their order, or one folder of files or folders that are steps by their names
    (`step-500.pt`, `checkpoint-1000/`, `net-final.pt`), which are put in the order of their steps; what is in it
    beside them is listed. The step of each comes from its name, from the folder that it lies in, or from what the
    checkpoint says. Only the first, the previous and the present one are open at a time. The other arguments are those
    of `compare`.

    Raises what `inspect` raises for any of the locations, those in a folder aside, and UsageError where there are
    fewer than two, or several series of steps in one folder.
    """
    with limited(limits):
        how = _How((include, exclude), (as_stored, rules_from(rules)), root, law_of(law), workers)
        skipped: list[Skipped] = []
        if isinstance(locations, str | os.PathLike):
            found = _in_folder(str(locations), how, skipped)
        else:
            found = [_Candidate(location, *how.known(location)) for location in locations]
        if len(found) < 2:
            beside = f": {skipped[0].name} {skipped[0].reason}" if skipped else ""
            raise UsageError(f"it takes two checkpoints or more to see what changed{beside}")
        steps = steps_of([(one.name, one.counters) for one in found])
        if isinstance(locations, str | os.PathLike):
            order = in_order(steps)
            found, steps = [found[index] for index in order], tuple(steps[index] for index in order)
        units = {step.unit for step in steps} - {None}
        made = _followed(found, steps, how, progress)
        return make_trajectory(units.pop() if units else None, made, skipped)


@dataclass(frozen=True, slots=True)
class _How:
    """What is the same for all checkpoints of one call."""

    patterns: tuple[Sequence[str], Sequence[str]]
    taken: tuple[bool, Rules]
    root: str | None
    law: Law
    workers: int | None

    def opened(self, location: Location) -> Opened:
        return opened(location, self.root, self.patterns, self.taken)

    def known(self, location: Location) -> tuple[str, Mapping[str, int], int]:
        """(location, counters, bytes) of a checkpoint, which is closed again."""
        checkpoint = self.opened(location).checkpoint
        return checkpoint.location, checkpoint.counters, checkpoint.bytes

    def report(self, side: Opened, progress: Progress) -> Report:
        return report_on(side, (DEFAULT_WEIGHT_DECAY, self.law), self.workers, progress)

    def measured(self, matching: Matching, sides: tuple[Opened, Opened], progress: Progress) -> list[PairMoments | str]:
        """The moments of each matched pair, or why there are none."""
        pairs = [matched.pair for matched in matching.matched]
        refused = beyond_budget([pair.before for pair in pairs], sides[0].checkpoint.bytes)
        refused |= beyond_budget([pair.after for pair in pairs], sides[1].checkpoint.bytes)
        read = [index for index in range(len(pairs)) if index not in refused]
        total = sum(pairs[index].stored_bytes for index in read)
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        workers = 1 if any(side.is_live for side in sides) else self.workers
        moments = measure_pairs([pairs[index] for index in read], workers=workers, progress=advance)
        results: dict[int, PairMoments | str] = {**refused, **dict(zip(read, moments, strict=True))}
        return [results[index] for index in range(len(pairs))]


class _Passes:
    """The progress of several readings, one after the other."""

    def __init__(self, total: int, progress: Progress) -> None:
        self.total, self.progress, self.before = total, progress, 0

    def advance(self, done: int, of: int) -> None:
        """So much of the present reading is done."""
        self.progress(min(self.total, self.before + done), self.total)

    def end(self, size: int) -> None:
        """The present reading is over."""
        self.before += size


def _matching(before: Opened, after: Opened) -> Matching:
    return match_layers(
        *(
            Candidate(side.network, side.items, side.checkpoint.unread, side.checkpoint.format)
            for side in (before, after)
        )
    )


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A checkpoint of a trajectory before it is read."""

    location: Location
    name: str
    counters: Mapping[str, int]
    bytes: int


def _in_folder(folder: str, how: _How, skipped: list[Skipped]) -> list[_Candidate]:
    """The steps in a folder, as far as they can be opened; the others are added to `skipped`."""
    if not os.path.isdir(folder):
        raise UsageError(f"{quoted(folder)} is one checkpoint: name two or more, or a folder of them")
    names = open_folder(Path(folder)).names
    series = {rest: members for rest, members in series_of(names).items() if len(members) > 1}
    if len(series) > 1:
        shown = ", ".join(f"{quoted(rest)} ({len(members)})" for rest, members in list(series.items())[:MOST_NAMED])
        more = f" and {len(series) - MOST_NAMED} more" if len(series) > MOST_NAMED else ""
        raise UsageError(
            f"{quoted(folder)} holds the steps of {len(series)} networks by their names, {shown}{more}: name the "
            "checkpoints of one of them"
        )
    if not series:
        raise UsageError(f"no two names in {quoted(folder)} tell of steps: name the checkpoints in their order")
    found = []
    (members,) = series.values()
    for name in members:
        location = os.path.join(folder, name)
        try:
            found.append(_Candidate(location, *how.known(location)))
        except CheckpointError as error:
            skipped.append(Skipped(name, error.problem))
    skipped += [Skipped(name, "tells of no step of this series") for name in names if name not in set(members)]
    return found


def _followed(
    found: Sequence[_Candidate], steps: Sequence[Step], how: _How, progress: Progress
) -> list[TrajectoryStep]:
    """Every step, read in order."""
    sizes = [one.bytes for one in found]
    pairs = [sizes[at] + sizes[0] + (sizes[at] + sizes[at - 1] if at > 1 else 0) for at in range(1, len(found))]
    passed = _Passes(sum(sizes) + sum(pairs), progress)
    made: list[TrajectoryStep] = []
    first: tuple[Opened, Report] | None = None
    previous: tuple[Opened, Report] | None = None
    for one, step in zip(found, steps, strict=True):
        side = how.opened(one.location)
        here = (side, how.report(side, passed.advance))
        passed.end(one.bytes)
        from_first = _between(first, here, how, passed)
        from_previous = from_first if previous is first else _between(previous, here, how, passed)
        made.append(make_step(step, here[1], from_first, from_previous))
        first, previous = first or here, here
    return made


def _between(
    there: tuple[Opened, Report] | None, here: tuple[Opened, Report], how: _How, passed: _Passes
) -> Comparison | None:
    """What changed from one checkpoint to another; None without the first."""
    if there is None:
        return None
    sides = there[0], here[0]
    matching = _matching(*sides)
    moments = how.measured(matching, sides, passed.advance)
    passed.end(sum(side.checkpoint.bytes for side in sides))
    return make_comparison(there[1], here[1], matching, moments)
