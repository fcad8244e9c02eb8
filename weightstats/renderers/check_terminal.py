"""A check for people, and for the log of a pipeline: one line a finding, then one that sums up."""

from collections.abc import Iterator

from weightstats.checks import Check, Finding, Outcome
from weightstats.errors import counted
from weightstats.policies import LEVELS
from weightstats.renderers.words import MOST_REASON, printable

MOST_SHOWN = 20
"""Findings of one rule that are written out."""


def render(check: Check, most: int = MOST_SHOWN) -> str:
    """`location: layer: rule: what was found, demanded: what was demanded`, at most `most` lines a rule."""
    lines = [line for outcome in check.outcomes for line in _lines(check, outcome, most)]
    return "\n".join([*lines, summary(check)]) + "\n"


def _lines(check: Check, outcome: Outcome, most: int) -> Iterator[str]:
    for finding in outcome.findings[:most]:
        yield line(check, finding)
    left = outcome.findings[most:]
    if left:
        errors = sum(finding.level == "error" for finding in left)
        grave = "" if errors == len(left) else f" ({errors:,} of them errors)"
        more = f"and {len(left):,} more{grave}; --format json lists them all"
        yield f"{printable(check.location)}: {outcome.rule.id}: {more}"


def line(check: Check, finding: Finding) -> str:
    """One finding in one line."""
    level = "" if finding.level == "error" else f" ({finding.level})"
    parts = [printable(check.location), f"{finding.rule}{level}", printable(finding.message, MOST_REASON)]
    if finding.name is not None:
        parts.insert(1, printable(finding.name))
    return ": ".join(parts)


def summary(check: Check) -> str:
    """How the checkpoint stands to the policy, in one line."""
    location, policy = printable(check.location), printable(check.policy)
    if check.format is None:
        return f"{location}: could not be read, so that nothing was held to {policy}"
    held = sum(outcome.holds for outcome in check.outcomes)
    found = [counted(check.count(level), level, f"{level}s") for level in LEVELS if check.count(level)]
    what = f"{'meets' if check.holds else 'does not meet'} {policy}"
    if check.problem is not None:
        what = f"is damaged, and does not meet {policy}"
    return (
        f"{location}: {what}: {held:,} of {counted(len(check.outcomes), 'rule', 'rules')} hold, "
        f"{', '.join(found) or 'no findings'}, {counted(check.tensors_judged, 'tensor', 'tensors')} judged"
    )
