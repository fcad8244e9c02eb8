"""What one rule of a policy makes of a report: a judgement on each layer, tensor or value that the rule is about."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from weightstats.demands import Demand, Never, OneOf, Only, Present, Within, number_words
from weightstats.effective_weights import PACKED
from weightstats.errors import counted, quoted
from weightstats.policies import PolicyRule
from weightstats.report import LayerRow, OtherRow, Report
from weightstats.rules import is_selected, matches
from weightstats.subjects import SUBJECTS, Scope

LEARNED = ("bias", "norm", "parameter")
"""Kinds of tensors that are no layers and are trained all the same."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """Whether one thing is as demanded. Made by `judgements`."""

    name: str | None
    """Of the layer or tensor; None for the checkpoint as a whole."""

    found: str
    """In words."""

    value: float | int | str | None
    met: bool | None
    """None where it cannot be told."""


@dataclass(frozen=True, slots=True)
class Idle:
    """A glob that matches nothing, or a rule that is left with nothing to judge. Made by `idle`."""

    found: str
    harmless: bool
    """Whether nothing escapes judgement by it: an exception that nothing needs."""


Row: TypeAlias = LayerRow | OtherRow
AnyRow = TypeVar("AnyRow", LayerRow, OtherRow, Row)


def judgements(report: Report, rule: PolicyRule) -> Iterator[Judgement]:
    """What the rule makes of each thing that it is about, in the report's order."""
    match SUBJECTS[rule.subject].scope:
        case "layers":
            for layer in _selected(report.layers, rule):
                yield _of_layer(report, layer, rule)
        case "tensors":
            for row in _selected(_tensors(report, rule.subject), rule):
                yield _of_tensor(row, rule)
        case "unread":
            missed = [(one.name, one.reason) for one in report.unread if _is_selected(one.name, None, rule)]
            yield from _counted(missed, "could not be read", rule.demand)
        case "packed":
            packed = [(one.name, one.reason) for one in _selected(_packed(report), rule)]
            yield from _counted(packed, "are not decoded", rule.demand)
        case "count":
            yield _number(None, sum(1 for _ in _selected(report.layers, rule)), rule.demand, "")
        case "fit":
            yield _of_fit(report, rule)
        case "penalty":
            yield _of_penalty(report, rule)
        case "checkpoint":
            yield from _of_checkpoint(report, rule)


def idle(report: Report, rule: PolicyRule) -> Iterator[Idle]:
    """What of the rule's globs matches nothing, and whether the rule is left with nothing to judge."""
    scope = SUBJECTS[rule.subject].scope
    if scope not in ("layers", "tensors", "unread", "packed", "count"):
        return
    names = list(_names(report, scope, rule.subject))
    what = "layer" if scope in ("layers", "count") else "tensor"
    unmet = [glob for glob in rule.include if not _any_matches(glob, names)] if scope != "count" else []
    for glob in unmet:
        yield Idle(f"include {quoted(glob)} matches no {what}", harmless=False)
    for glob in rule.exclude:
        if not _any_matches(glob, names):
            yield Idle(f"exclude {quoted(glob)} matches no {what}", harmless=True)
    if scope in ("layers", "tensors") and not unmet:
        if not names:
            yield Idle(f"there is no {what}", harmless=False)
        elif not any(is_selected(set(both), rule.include, rule.exclude) for both in names):
            yield Idle(f"include and exclude leave no {what}", harmless=False)


def _any_matches(glob: str, names: Sequence[tuple[str, ...]]) -> bool:
    return any(matches(glob, name) for both in names for name in both)


def _names(report: Report, scope: Scope, subject: str) -> Iterator[tuple[str, ...]]:
    """What globs may match: the names of each thing that a rule could be about."""
    rows: Sequence[Row] = report.layers
    if scope == "tensors":
        rows = _tensors(report, subject)
    elif scope in ("unread", "packed"):
        rows = (*report.layers, *report.others)
        yield from ((one.name,) for one in report.unread)
    for row in rows:
        whole = row.part_of if isinstance(row, LayerRow) else None
        yield (row.name,) if whole is None else (row.name, whole)


def _selected(rows: Sequence[AnyRow], rule: PolicyRule) -> Iterator[AnyRow]:
    for row in rows:
        if _is_selected(row.name, row.part_of if isinstance(row, LayerRow) else None, rule):
            yield row


def _is_selected(name: str, whole: str | None, rule: PolicyRule) -> bool:
    return is_selected({name, whole or name}, rule.include, rule.exclude)


def _tensors(report: Report, subject: str) -> Sequence[Row]:
    """Layers, and what beside them is judged by itself."""
    if subject == "nonfinite":
        return (*report.layers, *(other for other in report.others if other.nonfinite is not None))
    return (*report.layers, *(other for other in report.others if other.kind in (*LEARNED, PACKED)))


def _packed(report: Report) -> Sequence[OtherRow]:
    return [other for other in report.others if other.kind == PACKED]


LAYER_NUMBERS: dict[str, Callable[[LayerRow], float]] = {
    "ratio": lambda row: row.ratio,
    "mean_square": lambda row: row.mean_square,
    "max_abs": lambda row: row.max_abs,
    "excess_kurtosis": lambda row: row.excess_kurtosis,
    "share_of_zeros": lambda row: row.zeros / _finite(row) if _finite(row) else math.nan,
}
"""The number of a layer that each subject is about; NaN where it has none."""


def _finite(row: LayerRow) -> int:
    return row.elements - row.nonfinite


def _of_layer(report: Report, row: LayerRow, rule: PolicyRule) -> Judgement:
    if rule.subject == "initialisation":
        return _of_initialisation(row, rule.demand)
    if _finite(row) == 0:
        return Judgement(row.name, "none of its weights is finite", math.nan, None)
    if rule.subject == "all_zero":
        return Judgement(row.name, f"all its {_finite(row):,} finite weights are zero", None, row.max_abs != 0.0)
    if rule.subject == "ratio" and not row.fitted:
        return Judgement(row.name, f"left out of the fit: {row.left_out_because}", math.nan, None)
    if rule.subject == "ratio" and report.fit.layers == 1:
        return Judgement(row.name, "the law is fitted to this layer alone", math.nan, None)
    beyond = "beyond what float64 can hold"
    no_number = "all its weights are equal" if rule.subject == "excess_kurtosis" else beyond
    return _number(row.name, LAYER_NUMBERS[rule.subject](row), rule.demand, no_number)


def _of_initialisation(row: LayerRow, demand: Demand) -> Judgement:
    state, because = row.initialisation.state, row.initialisation.because
    met = isinstance(demand, OneOf) and demand.is_met(state)
    if state == "not told" and not met:
        return Judgement(row.name, because, state, None)
    return Judgement(row.name, f"{state} ({because})", state, met)


def _of_tensor(row: Row, rule: PolicyRule) -> Judgement:
    if rule.subject == "dtype":
        met = isinstance(rule.demand, Only) and rule.demand.is_met(row.dtype)
        return Judgement(row.name, row.dtype, row.dtype, met)
    count = row.nonfinite or 0
    met = isinstance(rule.demand, Within) and rule.demand.is_met(count)
    are = counted(count, f"of {row.elements:,} elements is", f"of {row.elements:,} elements are")
    return Judgement(row.name, f"{are} NaN or infinite", count, met)


def _counted(found: Sequence[tuple[str, str]], what: str, demand: Demand) -> Iterator[Judgement]:
    """One judgement on how many there are; where they are too many, one for each."""
    count = len(found)
    if isinstance(demand, Within) and demand.is_met(count):
        yield Judgement(None, f"{count:,} {what}", count, True)
        return
    for name, reason in found:
        which = "" if count == 1 else f"is one of {count:,} that "
        yield Judgement(name, f"{which}{what}: {reason}", None, False)


def _number(name: str | None, value: float, demand: Demand, no_number: str) -> Judgement:
    """A judgement on a number; none where it is NaN, for which `no_number` is the reason."""
    if math.isnan(value):
        return Judgement(name, f"no number: {no_number}", value, None)
    met = isinstance(demand, Within) and demand.is_met(value)
    shown = number_words(value, demand) if isinstance(demand, Within) else ""
    return Judgement(name, shown, value, met)


def _of_fit(report: Report, rule: PolicyRule) -> Judgement:
    fit, demand = report.fit, rule.demand
    if fit.layers == 0:
        return Judgement(None, "no layer is fitted", None, None)
    match rule.subject, demand:
        case "verdict", OneOf():
            return Judgement(None, f"{fit.verdict} ({fit.because})", fit.verdict, demand.is_met(fit.verdict))
        case "exponent_interval", _:
            return _interval(fit.exponent_interval, demand, fit.because)
        case "constant_interval", _:
            return _interval(fit.constant_interval, demand, fit.because)
        case "exponent", _ if math.isnan(fit.exponent_interval[0]):
            return Judgement(None, f"no number with an interval: {fit.because}", fit.exponent, None)
        case "exponent", _:
            return _number(None, fit.exponent, demand, fit.because)
        case "constant", _:
            return _number(None, fit.constant, demand, fit.because)
    return _number(None, fit.spread, demand, fit.because)


def _interval(interval: tuple[float, float], demand: Demand, because: str) -> Judgement:
    low, high = interval
    if math.isnan(low) or math.isnan(high):
        return Judgement(None, f"no interval: {because}", None, None)
    if not isinstance(demand, Within):
        raise TypeError(demand)
    words = f"{number_words(low, demand)} to {number_words(high, demand)}"
    return Judgement(None, words, None, demand.is_met(low) and demand.is_met(high))


def _of_penalty(report: Report, rule: PolicyRule) -> Judgement:
    if rule.penalty is None:
        raise TypeError(rule)
    split = report.penalties[rule.penalty]
    no_number = "no layer has a finite share" if report.layers else "there is no layer"
    if rule.subject == "largest_share":
        return _number(split.largest.name, split.largest.share, rule.demand, no_number)
    value = split.evenness if rule.subject == "evenness" else split.evenness_fitted
    return _number(None, value, rule.demand, no_number)


def _of_checkpoint(report: Report, rule: PolicyRule) -> Iterator[Judgement]:
    part = report.checkpoint
    match rule.subject, rule.demand:
        case "names", Present(globs):
            yield from _present(report, globs)
        case "objects_not_loaded", Only() as only:
            for name in part.objects_not_loaded:
                yield Judgement(None, name, name, only.is_met(name))
        case "warnings", Only() as only:
            for warning in part.warnings:
                yield Judgement(None, warning, warning, only.is_met(warning))
        case "damage", Never():
            yield Judgement(None, part.damage or "whole", part.damage, part.damage is None)
        case "format", Only() as only:
            yield Judgement(None, part.format, part.format, only.is_met(part.format))
        case "parameters" | "tensors" | "bytes" as count, Within() as within:
            yield _number(None, getattr(part, count), within, "")


def _present(report: Report, globs: Sequence[str]) -> Iterator[Judgement]:
    """One judgement for each name that must be there."""
    names = {name for row in report.layers for name in (row.name, row.part_of or row.name, *row.tied_to)}
    names.update(row.name for row in report.others)
    unread = {one.name: one.reason for one in report.unread}
    for glob in globs:
        if glob in names or any(matches(glob, name) for name in names):
            yield Judgement(None, f"there is {quoted(glob)}", glob, True)
            continue
        lost = next((name for name in unread if matches(glob, name)), None)
        if lost is not None:
            yield Judgement(lost, f"is there, but could not be read: {unread[lost]}", glob, False)
        else:
            yield Judgement(None, f"there is no {quoted(glob)}", glob, False)
