"""A report held to a policy: what each rule found. Its dict form is the JSON schema `weightstats/check/1`."""

from dataclasses import dataclass
from typing import Any

from weightstats.errors import UsageError, quoted
from weightstats.judgements import Idle, Judgement, idle, judgements
from weightstats.policies import LEVELS, Level, Policy, PolicyRule
from weightstats.report import Report, plain
from weightstats.subjects import SUBJECTS
from weightstats.version import VERSION

SCHEMA = "weightstats/check/1"

NOT_SELECTED = "not selected"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as a rule demands, or that could not be judged."""

    rule: str
    """The rule's id."""

    about: str
    """What the rule looks at, in a few words."""

    level: Level
    name: str | None
    """Of the layer or tensor; None where it is about the checkpoint as a whole."""

    value: float | int | str | None
    """What was found, for programs; None where that is no single value, NaN where there is no number."""

    found: str
    """What was found, in words."""

    demanded: str | None
    """In words; None where it is a glob that matches nothing."""

    judged: bool
    """False where it could not be told whether the demand is met."""

    @property
    def is_remark(self) -> bool:
        """Whether it is a note, and not on something that was judged: nothing has to be done about it."""
        return self.level == "note" and (not self.judged or self.demanded is None)

    @property
    def message(self) -> str:
        """What was found and what was demanded."""
        demanded = "" if self.demanded is None else f", demanded: {self.demanded}"
        return f"{'' if self.judged else 'not judged: '}{self.found}{demanded}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one rule found."""

    rule: PolicyRule
    judged: int | None
    """How many layers, tensors or values of the checkpoint it could judge; None where the checkpoint could not be
    read."""

    findings: tuple[Finding, ...]
    names: frozenset[str]
    """Of the layers and tensors that it judged by themselves."""

    @property
    def holds(self) -> bool:
        """Whether the checkpoint could be read, and no finding is an error."""
        return self.judged is not None and all(finding.level != "error" for finding in self.findings)


@dataclass(frozen=True, slots=True)
class Check:
    """A checkpoint held to a policy. Made by `hold`, and by `unreadable` where there is no report."""

    version: str
    """Of weightstats."""

    location: str
    format: str | None
    """None where the checkpoint could not be read."""

    policy: str
    """The policy's file."""

    problem: str | None
    """Why the checkpoint could not be read, or what is wrong with the file as a whole; None where nothing is."""

    tensors: int
    """That the checkpoint stores."""

    tensors_judged: int
    """Layers, parts of a fused weight and other tensors that at least one rule judged by themselves."""

    outcomes: tuple[Outcome, ...]
    """Of each rule, in the policy's order."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Of all rules."""
        return tuple(finding for outcome in self.outcomes for finding in outcome.findings)

    @property
    def holds(self) -> bool:
        """Whether the checkpoint could be read, is whole, and no finding is an error."""
        return self.problem is None and all(outcome.holds for outcome in self.outcomes)

    def count(self, level: Level) -> int:
        """Findings of a level."""
        return sum(finding.level == level for outcome in self.outcomes for finding in outcome.findings)

    def to_dict(self) -> dict[str, Any]:
        """The check as plain dicts, lists and numbers for JSON: no NaN and no infinity, None in their place."""
        return {
            "schema": SCHEMA,
            "version": self.version,
            "location": self.location,
            "format": self.format,
            "policy": self.policy,
            "holds": self.holds,
            "problem": self.problem,
            "tensors": self.tensors,
            "tensors_judged": self.tensors_judged,
            "counts": {level: self.count(level) for level in LEVELS},
            "rules": [_plain_rule(outcome) for outcome in self.outcomes],
            "findings": plain(self.findings),
        }

    def __str__(self) -> str:
        from weightstats.renderers import check_terminal

        return check_terminal.render(self)


def hold(report: Report, policy: Policy) -> Check:
    """Hold a report to a policy.

    UsageError where the report was made in a way that the policy cannot judge: on another law or root than it says, or
    with layers left out.
    """
    _refuse(report, policy)
    outcomes = tuple(_outcome(report, rule) for rule in policy.rules)
    part = report.checkpoint
    return Check(
        version=VERSION,
        location=part.location,
        format=part.format,
        policy=policy.source,
        problem=part.damage,
        tensors=part.tensors,
        tensors_judged=len(frozenset().union(*(outcome.names for outcome in outcomes))),
        outcomes=outcomes,
    )


def unreadable(location: str, problem: str, policy: Policy) -> Check:
    """The check of a checkpoint that could not be read: nothing is judged, and it does not hold."""
    outcomes = tuple(Outcome(rule, None, (), frozenset()) for rule in policy.rules)
    return Check(VERSION, location, None, policy.source, problem, 0, 0, outcomes)


def _refuse(report: Report, policy: Policy) -> None:
    if policy.law is not None and report.fit.law_key != policy.law:
        raise UsageError(f"{policy.source}: it is about the law {policy.law}, and the report on {report.fit.law_key}")
    if policy.root is not None and report.checkpoint.root != policy.root:
        raise UsageError(
            f"{policy.source}: it is about the root {quoted(policy.root)}, and the report on "
            f"{quoted(report.checkpoint.root)}"
        )
    if any(other.kind == NOT_SELECTED for other in report.others):
        raise UsageError(
            "a report with layers left out cannot be held to a policy; its rules have include and exclude instead"
        )


def _outcome(report: Report, rule: PolicyRule) -> Outcome:
    judged = list(judgements(report, rule))
    findings = [_finding(rule, one) for one in judged if not one.met]
    by_itself = SUBJECTS[rule.subject].scope in ("layers", "tensors")
    return Outcome(
        rule=rule,
        judged=sum(one.met is not None for one in judged),
        findings=(*(_idle_finding(rule, one) for one in idle(report, rule)), *findings),
        names=frozenset(one.name for one in judged if by_itself and one.name is not None and one.met is not None),
    )


def _finding(rule: PolicyRule, one: Judgement) -> Finding:
    level = rule.when_not_judged if one.met is None else rule.level
    return Finding(rule.id, rule.about, level, one.name, one.value, one.found, rule.demand.words, one.met is not None)


def _idle_finding(rule: PolicyRule, one: Idle) -> Finding:
    level: Level = "note" if one.harmless else rule.level
    return Finding(rule.id, rule.about, level, None, None, one.found, None, judged=one.harmless)


def _plain_rule(outcome: Outcome) -> dict[str, Any]:
    rule = outcome.rule
    return {
        "id": rule.id,
        "subject": rule.subject,
        "penalty": rule.penalty,
        "demanded": rule.demand.words,
        "level": rule.level,
        "when_not_judged": rule.when_not_judged,
        "because": rule.because,
        "include": list(rule.include),
        "exclude": list(rule.exclude),
        "judged": outcome.judged,
        "holds": outcome.holds,
        "findings": len(outcome.findings),
    }
