"""Policies: what a TOML file of rules demands, and what is refused with a line that says what was meant."""

import math
import re
from pathlib import Path
from typing import Any

import pytest

from weightstats import UsageError
from weightstats.commands.example_policy import EXAMPLE
from weightstats.demands import Never, OneOf, Only, Present, Within
from weightstats.policies import ALWAYS, LEVELS, Policy, make_policy, policy_from, read_policy
from weightstats.subjects import OF_PENALTIES, OF_TENSORS, SUBJECTS

USABLE: dict[str, Any] = {
    "nonfinite": 0,
    "dtype": ["F32"],
    "ratio": [0.2, 5],
    "initialisation": ["moved", "not told"],
    "all_zero": False,
    "share_of_zeros": 0.5,
    "max_abs": 10,
    "mean_square": [0, 1.5],
    "excess_kurtosis": [-1.5, 50],
    "layers": [1, math.inf],
    "names": ["head.*"],
    "unread": 3,
    "packed": 0,
    "verdict": ["supported"],
    "exponent": [-1.2, -0.8],
    "exponent_interval": [-math.inf, -0.5],
    "constant": [1, 4],
    "constant_interval": [1, 4],
    "spread": 2,
    "evenness": 0.5,
    "evenness_fitted": 1,
    "largest_share": 0.4,
    "objects_not_loaded": [],
    "warnings": ["*not loaded*"],
    "damage": False,
    "format": ["safetensors*"],
    "parameters": [1e6, 1e9],
    "tensors": [1, 10],
    "bytes": [1, 1000],
}
"""A value that each subject can have."""


def rule(subject: str, value: object, **more: object) -> dict[str, object]:
    return {subject: value, **({"penalty": "plain"} if subject in OF_PENALTIES else {}), **more}


def policy(*rules: dict[str, object], **top: object) -> Policy:
    return make_policy({"rule": list(rules), **top}, "policy.toml")


def refusal(*rules: dict[str, object], **top: object) -> str:
    with pytest.raises(UsageError) as refused:
        policy(*rules, **top)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_every_subject_has_a_usable_value_here() -> None:
    assert list(USABLE) == list(SUBJECTS)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_makes_a_rule(subject: str) -> None:
    made = policy(rule(subject, USABLE[subject])).rules[0]
    assert made.subject == subject
    assert made.level == made.when_not_judged == "error"
    assert made.demand.words


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize(
    "value", [True, "0.5", math.nan, None, [], {}, [1], [1, 2, 3], [2, 1], [1, math.nan], -3, [""]]
)
def test_no_subject_takes_what_its_demand_cannot_be(subject: str, value: object) -> None:
    if subject in ("objects_not_loaded", "warnings") and value == []:
        return
    assert f"rule 1: {subject} must be {SUBJECTS[subject].wanted.words}, not " in refusal(rule(subject, value))


@pytest.mark.parametrize(
    ("subject", "value"),
    [
        ("share_of_zeros", 1.01),
        ("evenness", 1.5),
        ("largest_share", 50),
        ("spread", 0.9),
        ("nonfinite", 0.5),
        ("unread", 1e400),
        ("ratio", [-1, 1]),
        ("ratio", [math.inf, math.inf]),
        ("exponent", [-math.inf, -math.inf]),
        ("parameters", [10**400, 10**401]),
        ("initialisation", ["trained"]),
        ("verdict", ["supported", "maybe"]),
    ],
)
def test_values_out_of_reach_are_refused(subject: str, value: object) -> None:
    assert f"{subject} must be" in refusal(rule(subject, value))


def test_demands_are_worded_as_people_say_them() -> None:
    assert [Within(*pair).words for pair in ((0.2, 5), (-math.inf, 5), (5, math.inf), (5, 5), (1e6, 2e9))] == [
        *("0.2 to 5", "at most 5", "at least 5", "exactly 5", "1,000,000 to 2,000,000,000")
    ]
    assert OneOf(("a", "b", "c")).words == "a, b or c"
    assert (Only(()).words, Only(("F32", "BF16")).words) == ("none", "only F32 or BF16")


def test_a_bound_is_met_at_its_end_and_a_nan_never() -> None:
    assert Within(0.5, 2).is_met(0.5)
    assert Within(0.5, 2).is_met(2)
    assert not Within(0.5, 2).is_met(2.0000001)
    assert not Within(-math.inf, math.inf).is_met(math.nan)


def test_demands_say_what_kind_they_are() -> None:
    made = policy(*(rule(subject, value) for subject, value in USABLE.items()))
    kinds = {one.subject: type(one.demand) for one in made.rules}
    assert kinds["ratio"] is kinds["nonfinite"] is kinds["evenness"] is Within
    assert kinds["dtype"] is kinds["warnings"] is Only
    assert (kinds["verdict"], kinds["names"], kinds["damage"]) == (OneOf, Present, Never)


def test_at_most_and_at_least_are_not_mixed_up() -> None:
    made = policy(rule("max_abs", 3), rule("evenness", 0.25)).rules
    assert [one.demand for one in made[:2]] == [Within(-math.inf, 3), Within(0.25, math.inf)]


@pytest.mark.parametrize(
    ("given", "meant"), [("ratoi", "ratio"), ("max-abs", "max_abs"), ("exclud", "exclude"), ("lvel", "level")]
)
def test_an_unknown_key_names_the_nearest_known_one(given: str, meant: str) -> None:
    assert (
        refusal({"ratio": [1, 2], given: 1}) == f"policy.toml: rule 1: unknown key {given!r}; did you mean {meant!r}?"
    )


def test_an_unknown_key_that_is_near_none_lists_them_all() -> None:
    told = refusal({"xyzzy": 1})
    assert all(key in told for key in SUBJECTS)


def test_an_unknown_key_on_top_says_where_a_demand_belongs() -> None:
    assert refusal(rule("layers", [1, 2]), ratio=[1, 2]).endswith("; a demand belongs into a [[rule]]")
    assert "did you mean 'rule'?" in refusal(rules=[{}])


def test_a_rule_demands_one_thing() -> None:
    assert "this one demands ratio and max_abs" in refusal({"ratio": [1, 2], "max_abs": 1})
    assert "this one demands nothing; there are nonfinite, " in refusal({"level": "note"})


@pytest.mark.parametrize("content", [{}, {"rule": []}, {"inspect": {"law": "fan-sum"}}])
def test_a_policy_without_rules_is_refused(content: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"has no \[\[rule\]\], so that every checkpoint would hold"):
        make_policy(content, "policy.toml")


@pytest.mark.parametrize("rules", [{"ratio": [1, 2]}, [1], "ratio"])
def test_rules_are_tables(rules: object) -> None:
    with pytest.raises(UsageError, match=r"rules are \[\[rule\]\] tables"):
        make_policy({"rule": rules}, "policy.toml")


def test_what_is_not_read_is_always_demanded_to_be_none() -> None:
    made = policy(rule("ratio", [1, 2])).rules
    assert [one.subject for one in made] == ["ratio", *ALWAYS]
    assert all(one.demand == Within(-math.inf, 0) and one.level == "error" for one in made[1:])


def test_a_rule_of_its_own_takes_the_place_of_what_is_always_demanded() -> None:
    made = policy(rule("unread", 3, level="warning")).rules
    assert [(one.subject, one.level) for one in made] == [("unread", "warning"), ("packed", "error")]


def test_levels_soften_what_is_found_and_what_cannot_be_judged() -> None:
    softened, tolerant = policy(
        rule("ratio", [1, 2], level="warning"), rule("ratio", [1, 2], when_not_judged="note")
    ).rules[:2]
    assert (softened.level, softened.when_not_judged) == ("warning", "warning")
    assert (tolerant.level, tolerant.when_not_judged) == ("error", "note")


@pytest.mark.parametrize("key", ["level", "when_not_judged"])
@pytest.mark.parametrize("value", ["fatal", 1, ["error"], "Error"])
def test_other_levels_are_refused(key: str, value: object) -> None:
    assert f"{key} must be {', '.join(LEVELS[:2])} or {LEVELS[2]}" in refusal(rule("ratio", [1, 2], **{key: value}))


def test_ids_are_the_subjects_and_differ() -> None:
    made = policy(
        rule("ratio", [1, 2]),
        rule("ratio", [1, 2], id="ratio-2"),
        rule("ratio", [1, 2]),
        rule("evenness", 0.5, penalty="fan-scaled"),
    ).rules
    assert [one.id for one in made] == ["ratio", "ratio-2", "ratio-3", "evenness-fan_scaled", "unread", "packed"]


@pytest.mark.parametrize("value", ["", "a b", "<x>", "a/b", "-a", 3, "x" * 101, "ä"])
def test_an_id_is_a_plain_name(value: object) -> None:
    assert "id must be a name of letters" in refusal(rule("ratio", [1, 2], id=value))


def test_an_id_is_given_once() -> None:
    assert "id 'x' is that of rule 1" in refusal(rule("ratio", [1, 2], id="x"), rule("max_abs", 1, id="x"))
    assert "id 'readable' is that of what every policy demands" in refusal(rule("ratio", [1, 2], id="readable"))


@pytest.mark.parametrize("subject", sorted(set(SUBJECTS) - OF_TENSORS))
def test_globs_are_for_rules_on_tensors(subject: str) -> None:
    assert f"include is for rules on layers and tensors, and {subject} is none" in refusal(
        rule(subject, USABLE[subject], include=["*"])
    )


@pytest.mark.parametrize("value", ["*", [], [1], [""], None])
def test_globs_are_a_list_of_texts(value: object) -> None:
    assert "exclude must be a list of globs" in refusal(rule("ratio", [1, 2], exclude=value))


@pytest.mark.parametrize("subject", sorted(OF_PENALTIES))
def test_rules_on_penalties_say_which(subject: str) -> None:
    assert "penalty must be one of plain, per_element, fan_scaled" in refusal({subject: 0.5})
    assert "there is no penalty 'fan-scald'; did you mean 'fan_scaled'?" in refusal(
        {subject: 0.5, "penalty": "fan-scald"}
    )
    assert policy({subject: 0.5, "penalty": "fan-scaled"}).rules[0].penalty == "fan_scaled"


def test_other_rules_have_no_penalty() -> None:
    assert "penalty is for rules on evenness, evenness_fitted, largest_share, not on ratio" in refusal(
        {"ratio": [1, 2], "penalty": "plain"}
    )


@pytest.mark.parametrize("value", ["", 1, []])
def test_a_reason_is_text(value: object) -> None:
    assert "because must be text" in refusal(rule("ratio", [1, 2], because=value))


def test_the_inspection_is_said_in_the_policy(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(
        '[inspect]\nlaw = "fan-in"\nroot = "model"\nrules = "layers.toml"\nas_stored = true\n[[rule]]\nunread = 0\n'
    )
    made = read_policy(file)
    assert (made.law, made.root, made.layer_rules, made.as_stored) == (
        "fan-in",
        "model",
        tmp_path / "layers.toml",
        True,
    )


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"lwa": "fan-sum"}, r"unknown key 'lwa'; did you mean 'law'\?"),
        ({"law": "fan-sun"}, r"there is no law 'fan-sun'; did you mean 'fan-sum'\?"),
        ({"law": 1}, "law must be the key of a law"),
        ({"as_stored": "yes"}, "as_stored must be true or false"),
        ({"root": 1}, "root must be text"),
        ([], "inspect is a table of law, root, rules, as_stored"),
    ],
)
def test_the_inspection_is_validated(table: object, told: str) -> None:
    assert re.search(told, refusal(rule("unread", 0), inspect=table))


def test_messages_name_the_file_the_rule_and_its_line(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[[rule]]\nunread = 0\n\n[[rule]]\nratoi = [1, 2]\n")
    with pytest.raises(UsageError, match=rf"^{re.escape(str(file))}: rule 2 \(line 4\): unknown key 'ratoi'"):
        read_policy(file)


@pytest.mark.parametrize("content", [b"[[rule]\n", b"\xff\xfe", b"a = 1\na = 2\n", b"a = " + b"[" * 100_000])
def test_what_is_not_toml_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "policy.toml"
    file.write_bytes(content)
    with pytest.raises(UsageError, match="not valid TOML"):
        read_policy(file)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="the policy cannot be read: No such file"):
        read_policy(tmp_path / "none.toml")


def test_hostile_keys_and_values_are_cut_and_escaped() -> None:
    told = refusal({"\x1b[31m" + "x" * 1_000_000: 1}) + refusal(rule("ratio", "\u202e" * 1_000_000))
    assert told.isprintable()
    assert len(told) < 5_000


def test_a_policy_is_taken_as_file_mapping_or_policy(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text("[[rule]]\nratio = [1, 2]\n")
    made = policy_from({"rule": [{"ratio": [1, 2]}]})
    assert policy_from(file).rules == policy_from(str(file)).rules == made.rules
    assert policy_from(made) is made


def test_the_example_is_a_policy(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(EXAMPLE)
    assert len(read_policy(file).rules) >= 10


def test_the_example_is_a_policy_with_everything_in_it_uncommented(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    text = re.sub(r"^# (?=\[|[a-z_]+ = )", "", EXAMPLE, flags=re.MULTILINE)
    file.write_text(text)
    made = read_policy(file)
    assert len(made.rules) == text.count("\n[[rule]]")
    assert made.law == "fan-sum"
