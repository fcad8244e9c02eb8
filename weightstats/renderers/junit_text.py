"""A check as JUnit's XML: a suite for the checkpoint, a case for each rule, and one for its being readable.

There is no standard; this is what Jenkins (https://github.com/jenkinsci/xunit-plugin, junit-10.xsd) and GitLab
(https://docs.gitlab.com/ci/testing/unit_test_reports/) read.
"""

from collections.abc import Iterable
from xml.etree import ElementTree

from weightstats.checks import Check, Finding, Outcome
from weightstats.policies import LEVELS, READABLE
from weightstats.renderers.words import MOST_REASON, printable

MOST_SHOWN = 100
"""Findings of one rule that are written out."""


def render(check: Check) -> str:
    """One test suite. A rule with an error is a failure; one with warnings is skipped, which viewers show, and so is
    one that is broken at the level of a note; remarks alone are the output of a case that passed."""
    suites = ElementTree.Element("testsuites", name="weightstats check")
    suite = ElementTree.SubElement(suites, "testsuite", name=printable(check.location))
    _readable(ElementTree.SubElement(suite, "testcase", name=READABLE, classname="weightstats"), check)
    for outcome in check.outcomes:
        case = ElementTree.SubElement(suite, "testcase", name=outcome.rule.id, classname="weightstats")
        _case(case, outcome)
    counts = {
        "tests": len(suite),
        "failures": len(suite.findall("testcase/failure")),
        "errors": len(suite.findall("testcase/error")),
        "skipped": len(suite.findall("testcase/skipped")),
    }
    for key, count in counts.items():
        suite.set(key, str(count))
        if key != "skipped":  # which suites together do not have
            suites.set(key, str(count))
    ElementTree.indent(suites)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(suites, encoding="unicode") + "\n"


def _readable(case: ElementTree.Element, check: Check) -> None:
    if check.problem is not None:
        problem = printable(check.problem, MOST_REASON)
        ElementTree.SubElement(case, "error", message=problem, type="error").text = problem


def _case(case: ElementTree.Element, outcome: Outcome) -> None:
    if outcome.judged is None:
        ElementTree.SubElement(case, "skipped", message="not judged: the checkpoint could not be read")
        return
    if not outcome.findings:
        return
    worst = min((finding.level for finding in outcome.findings), key=LEVELS.index)
    if worst == "error":
        element = ElementTree.SubElement(case, "failure", message=_message(outcome), type="error")
    elif any(not finding.is_remark for finding in outcome.findings):
        element = ElementTree.SubElement(case, "skipped", message=f"{worst}: {_message(outcome)}")
    else:
        element = ElementTree.SubElement(case, "system-out")
    element.text = _text(outcome)


def _message(outcome: Outcome) -> str:
    """The first finding of the gravest, and how many there are."""
    gravest = min(outcome.findings, key=lambda finding: LEVELS.index(finding.level))
    more = len(outcome.findings) - 1
    return f"{_line(gravest)}{f' (and {more:,} more)' if more else ''}"


def _text(outcome: Outcome) -> str:
    rule, more = outcome.rule, len(outcome.findings) - MOST_SHOWN
    lines: Iterable[str] = (f"{finding.level}: {_line(finding)}" for finding in outcome.findings[:MOST_SHOWN])
    why = [printable(rule.because, MOST_REASON)] if rule.because is not None else []
    left = [f"and {more:,} more; --format json lists them all"] if more > 0 else []
    return "\n".join([*why, *lines, *left])


def _line(finding: Finding) -> str:
    name = "" if finding.name is None else f"{printable(finding.name)}: "
    return f"{name}{finding.about}: {printable(finding.message, MOST_REASON)}"
