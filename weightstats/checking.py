"""The pipeline for a policy, in the order in which it runs: a location to what does not hold."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from weightstats.checks import Check, hold
from weightstats.errors import UsageError
from weightstats.inspection import Location, inspect
from weightstats.laws import DEFAULT_LAW
from weightstats.policies import Policy, PolicyGiven, policy_from
from weightstats.report import Report
from weightstats.rules import RulesGiven


def check(
    location: "Location | Report",
    policy: PolicyGiven,
    *,
    law: str | None = None,
    root: str | None = None,
    as_stored: bool | None = None,
    rules: RulesGiven = None,
    limits: Mapping[str, int] = MappingProxyType({}),
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Check:
    """Hold the checkpoint at `location`, or a report on it, to a policy.

    `policy` is a TOML file, what it says as a mapping, or a Policy. Without `law`, `root`, `as_stored` and `rules` the
    policy says how the checkpoint is inspected; the arguments are those of `inspect`, and none goes with a report,
    which is made already.

    Raises what `inspect` raises, and UsageError for a policy that says what no policy can, or that is about another
    law or root than the report.
    """
    held = with_options(policy_from(policy), law=law, root=root, as_stored=as_stored, rules=rules)
    if isinstance(location, Report):
        if (law, root, as_stored, rules) != (None, None, None, None):
            raise UsageError("law, root, as_stored and rules are for a checkpoint; a report has been made already")
        return hold(location, held)
    return hold(report_for(location, held, limits=limits, workers=workers, progress=progress), held)


def with_options(
    policy: Policy, *, law: str | None, root: str | None, as_stored: bool | None, rules: RulesGiven
) -> Policy:
    """The policy with other options of the inspection, where they are given."""
    return replace(
        policy,
        law=policy.law if law is None else law,
        root=policy.root if root is None else root,
        as_stored=policy.as_stored if as_stored is None else as_stored,
        layer_rules=policy.layer_rules if rules is None else rules,
    )


def report_for(
    location: Location,
    policy: Policy,
    *,
    limits: Mapping[str, int] = MappingProxyType({}),
    workers: int | None = None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Report:
    """The report that the policy judges."""
    return inspect(
        location,
        law=policy.law or DEFAULT_LAW,
        root=policy.root,
        as_stored=policy.as_stored,
        rules=policy.layer_rules,
        limits=limits,
        workers=workers,
        progress=progress,
    )
