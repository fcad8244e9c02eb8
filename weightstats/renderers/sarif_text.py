"""A check as SARIF 2.1.0, which GitHub's code scanning and others show.

SARIF: https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html
What GitHub takes of it: https://docs.github.com/en/code-security/reference/code-scanning/sarif-support-for-code-scanning
"""

import hashlib
import json
import os
import re
from pathlib import PurePath
from typing import Any
from urllib.parse import quote

from weightstats.checks import Check, Finding
from weightstats.policies import LEVELS, READABLE, PolicyRule
from weightstats.renderers.words import MOST_REASON, printable
from weightstats.subjects import SUBJECTS
from weightstats.version import VERSION

SCHEMA_URI = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

MOST_RESULTS = 5_000
"""Findings that are written, the gravest first: GitHub shows so many of a run, and refuses more than 25,000."""

MOST_NAME = 1_000
"""Characters of a layer's name; its fingerprint is of all of it."""

_NUMBERS = re.compile(r"[0-9][0-9.,e+-]*")

READABLE_HELP = "The checkpoint can be read, and the file is whole. Every policy demands it."


def render(check: Check) -> str:
    """One run of one tool. The checkpoint's path is written as it was given, relative to the root of the sources where
    it is relative; each finding names its layer as a logical location. Remarks are no results but notifications.

    What could not be read, or is damaged, is a result of the rule `readable`, and the run was no success.
    """
    ranked = sorted(
        (finding for finding in check.findings if not finding.is_remark),
        key=lambda finding: LEVELS.index(finding.level),
    )
    places = {outcome.rule.id: number for number, outcome in enumerate(check.outcomes, 1)}
    where = _artifact(check.location)
    results = [] if check.problem is None else [_unreadable(where, check.problem)]
    room = MOST_RESULTS - len(results)
    results += [_result(where, finding, places[finding.rule]) for finding in ranked[:room]]
    run = {
        "tool": {
            "driver": {
                "name": "weightstats",
                "version": VERSION,
                "semanticVersion": VERSION,
                "rules": [_readable_rule(), *(_rule(outcome.rule) for outcome in check.outcomes)],
            }
        },
        "invocations": [_invocation(check, len(ranked[room:]))],
        "artifacts": [{"location": where, "roles": ["analysisTarget"]}],
        "results": results,
        "columnKind": "unicodeCodePoints",
    }
    log = {"$schema": SCHEMA_URI, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, allow_nan=False, indent=1) + "\n"


def _artifact(location: str) -> dict[str, Any]:
    """Where the checkpoint lies, percent-encoded; a colon too, which would end a scheme."""
    try:
        os.fsencode(location)
    except UnicodeEncodeError:  # the name of no file
        location = printable(location, len(location))
    path = PurePath(location)
    if path.is_absolute():
        return {"uri": path.as_uri()}
    return {"uri": quote(os.fsencode(path.as_posix())), "uriBaseId": "%SRCROOT%"}


def _invocation(check: Check, left_out: int) -> dict[str, Any]:
    notifications: list[dict[str, Any]] = []
    if check.problem is not None:
        notifications.append({"level": "error", "message": _message(printable(check.problem, MOST_REASON))})
    if left_out:
        text = f"{left_out:,} more findings are left out; --format json lists them all"
        notifications.append({"level": "warning", "message": {"text": text}})
    for number, outcome in enumerate(check.outcomes, 1):
        remarks = [finding for finding in outcome.findings if finding.is_remark]
        if remarks:
            more = f" (and {len(remarks) - 1:,} more)" if len(remarks) > 1 else ""
            rule = {"id": outcome.rule.id, "index": number}
            message = _message(f"{_line(remarks[0])}{more}")
            notifications.append({"level": "note", "message": message, "associatedRule": rule})
    return {"executionSuccessful": check.problem is None, "toolExecutionNotifications": notifications}


def _readable_rule() -> dict[str, Any]:
    return {
        "id": READABLE,
        "shortDescription": {"text": "the checkpoint can be read"},
        "fullDescription": {"text": READABLE_HELP},
        "help": {"text": READABLE_HELP},
        "defaultConfiguration": {"level": "error"},
    }


def _rule(rule: PolicyRule) -> dict[str, Any]:
    subject = SUBJECTS[rule.subject]
    demanded = printable(rule.demand.words, MOST_REASON)
    told = [subject.help, f"Demanded: {demanded}."]
    told += [f"Only for {_globs(rule.include)}."] if rule.include else []
    told += [f"Not for {_globs(rule.exclude)}."] if rule.exclude else []
    told += [printable(rule.because, MOST_REASON)] if rule.because is not None else []
    return {
        "id": rule.id,
        "name": rule.subject,
        "shortDescription": {"text": f"{rule.about}: {demanded}"},
        "fullDescription": {"text": subject.help},
        "help": {"text": " ".join(told)},
        "defaultConfiguration": {"level": rule.level},
        "properties": {"tags": ["weights", subject.scope]},
    }


def _globs(globs: tuple[str, ...]) -> str:
    return printable(", ".join(globs), MOST_REASON)


def _result(where: dict[str, Any], finding: Finding, place: int) -> dict[str, Any]:
    location: dict[str, Any] = _location(where)
    if finding.name is not None:
        full = printable(finding.name, MOST_NAME)
        location["logicalLocations"] = [{"name": full, "fullyQualifiedName": full, "kind": "object"}]
    return {
        "ruleId": finding.rule,
        "ruleIndex": place,
        "level": finding.level,
        "message": _message(_line(finding)),
        "locations": [location],
        "partialFingerprints": _fingerprints(finding.rule, finding.name, _told(finding)),
    }


def _unreadable(where: dict[str, Any], problem: str) -> dict[str, Any]:
    return {
        "ruleId": READABLE,
        "ruleIndex": 0,
        "level": "error",
        "message": _message(printable(problem, MOST_REASON)),
        "locations": [_location(where)],
        "partialFingerprints": _fingerprints(READABLE, None, ""),
    }


def _location(where: dict[str, Any]) -> dict[str, Any]:
    """The checkpoint; GitHub shows no result without a line."""
    return {"physicalLocation": {"artifactLocation": where, "region": {"startLine": 1}}}


def _line(finding: Finding) -> str:
    name = "" if finding.name is None else f"{printable(finding.name)}: "
    return f"{name}{finding.about}: {printable(finding.message, MOST_REASON)}"


def _message(text: str) -> dict[str, str]:
    """A message in which no name makes a link, `[text](address)`: that is what SARIF takes for one in plain text."""
    return {"text": text.replace("](", "]\\(")}


def _told(finding: Finding) -> str:
    """What tells a finding from others of its rule that name no layer either, without numbers that change."""
    if finding.name is not None:
        return ""
    return finding.value if isinstance(finding.value, str) else _NUMBERS.sub("#", finding.found)


def _fingerprints(rule: str, name: str | None, told: str) -> dict[str, str]:
    """What stays the same from run to run: the rule and the layer, and not the number that was found. GitHub goes by
    the first of the two."""
    text = "\0".join((rule, "" if name is None else name, told))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return {"primaryLocationLineHash": f"{digest[:16]}:1", "weightstatsFinding/v1": digest}
