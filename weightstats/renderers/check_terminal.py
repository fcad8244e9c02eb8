"""A check for people, and for the log of a pipeline: one line a finding, then one that sums up."""

from collections.abc import Iterator, Sequence

from weightstats.checks import Check, Finding, Outcome
from weightstats.errors import counted
from weightstats.policies import LEVELS, Level
from weightstats.renderers.words import MOST_REASON, printable

MOST_SHOWN: dict[Level, int] = {"error": 20, "warning": 10, "note": 3}
"""Lines of each level that a rule may take."""


def render(check: Check) -> str:
    """`location: layer: rule: what was found, demanded: what was demanded`, the gravest first.

    Each error has a line of its own; warnings and notes of one rule that read the same share one. Where a rule has more
    lines than MOST_SHOWN, one says how many findings are left. Why a rule demands what it does, where its policy says
    so, is a line behind its first finding on what was judged or should have been.
    """
    lines: list[str] = []
    told: set[str] = set()
    for level in LEVELS:
        for outcome in check.outcomes:
            rule = outcome.rule
            explained = rule.because if rule.id not in told and _needs_explaining(outcome, level) else None
            found = list(_lines(check, outcome, level))
            if explained is not None:
                told.add(rule.id)
                reason = printable(explained, MOST_REASON)
                found.insert(1, f"{printable(check.location)}: {_rule(rule.id, level)}: because: {reason}")
            lines += found
    return "\n".join([*lines, summary(check)]) + "\n"


def _needs_explaining(outcome: Outcome, level: Level) -> bool:
    return any(finding.level == level and not finding.is_remark for finding in outcome.findings)


def _lines(check: Check, outcome: Outcome, level: Level) -> Iterator[str]:
    alike: dict[object, list[Finding]] = {}
    for number, finding in enumerate(outcome.findings):
        if finding.level == level:
            alike.setdefault(number if level == "error" else finding.message, []).append(finding)
    groups = list(alike.values())
    for group in groups[: MOST_SHOWN[level]]:
        yield _line(check, group)
    left = sum(len(group) for group in groups[MOST_SHOWN[level] :])
    if left:
        rule = _rule(outcome.rule.id, level)
        yield f"{printable(check.location)}: {rule}: and {left:,} more; --format json lists all"


def _line(check: Check, alike: Sequence[Finding]) -> str:
    first = alike[0]
    parts = [printable(check.location), _rule(first.rule, first.level), printable(first.message, MOST_REASON)]
    if first.name is not None:
        more = f" and {len(alike) - 1:,} more" if len(alike) > 1 else ""
        parts.insert(1, f"{printable(first.name)}{more}")
    return ": ".join(parts)


def _rule(name: str, level: Level) -> str:
    return name if level == "error" else f"{name} ({level})"


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
