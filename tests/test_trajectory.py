"""Several checkpoints in order: their steps, the fit at each, and how far the weights have come."""

import csv
import io
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_cli import run
from test_comparison import mlp, normal, saved
from test_trained import TRAINED, file_name

import weightstats
from weightstats.checkpoint import COUNTERS, counters_in
from weightstats.readers import open_checkpoint
from weightstats.renderers import trajectory_text
from weightstats.steps import in_order, series_of, steps_of
from weightstats.trajectories import Trajectory

# Steps.


@pytest.mark.parametrize(
    ("location", "number", "unit"),
    [
        ("step-500.pt", 500, "step"),
        ("runs/a/checkpoint-1000", 1000, "step"),
        ("epoch=3-step=200.ckpt", 200, "step"),
        ("model_00300.pt", 300, "step"),
        ("mlp-16-step0.safetensors", 0, "step"),
        ("global_step1000", 1000, "step"),
        ("iter_0005000/mp_rank_00/model_optim_rng.pt", 5000, "step"),
        ("checkpoint-500/model.safetensors", 500, "step"),
        ("checkpoint-500/model-00001-of-00002.safetensors", 500, "step"),
        ("ckpt-5.index", 5, "step"),
        ("step10k.pt", 10_000, "step"),
        ("step1000-tokens4B", 1000, "step"),
        ("model.300", 300, "step"),
        ("weights.12.weights.h5", 12, "step"),
        ("epoch_10.pt", 10, "epoch"),
        ("ep3.pth", 3, "epoch"),
        ("net-init.pt", 0, "step"),
    ],
)
def test_the_step_is_taken_from_the_name(location: str, number: int, unit: str) -> None:
    (step,) = steps_of([(location, {})])
    assert (step.number, step.unit) == (number, unit)


@pytest.mark.parametrize("location", ["resnet50.pth", "model-00001-of-00002.safetensors", "yolov8n.pt", "best.pt", ""])
def test_a_name_that_tells_no_step_is_the_label(location: str) -> None:
    (step,) = steps_of([(location, {})])
    assert (step.number, step.unit, step.label) == (None, None, location)


@pytest.mark.parametrize("word", ["final", "last", "latest"])
def test_the_last_one_needs_no_number(word: str) -> None:
    steps = steps_of([("net-step0.pt", {}), (f"net-{word}.pt", {})])
    assert [(step.number, step.unit, step.label) for step in steps] == [(0, "step", "step 0"), (None, None, word)]


def test_the_checkpoint_itself_says_it_where_its_name_does_not() -> None:
    steps = steps_of([("a.pt", {"epoch": 2, "global_step": 700}), ("final.pt", {"step": 900})])
    assert [(step.number, step.label, step.taken_from) for step in steps] == [
        (700, "step 700", "global_step in the checkpoint"),
        (900, "final (step 900)", "step in the checkpoint"),
    ]


def test_a_name_comes_before_what_the_checkpoint_says() -> None:
    (step,) = steps_of([("step-5.pt", {"step": 6})])
    assert (step.number, step.taken_from) == (5, "its name")


def test_all_steps_are_of_one_unit() -> None:
    epochs = steps_of([("epoch=1-step=10.ckpt", {}), ("b.ckpt", {"epoch": 2})])
    assert [(step.number, step.unit, step.label) for step in epochs] == [
        (1, "epoch", "epoch 1"),
        (2, "epoch", "epoch 2"),
    ]
    unknown = steps_of([("step-1.pt", {}), ("epoch-2.pt", {})])
    assert [(step.number, step.unit, step.label) for step in unknown] == [
        (None, None, "step-1.pt"),
        (None, None, "epoch-2.pt"),
    ]


def test_steps_are_put_in_the_order_of_their_numbers_and_the_last_comes_last() -> None:
    names = ["final.pt", "step-1000.pt", "step-200.pt", "step-0.pt"]
    assert in_order(steps_of([(name, {}) for name in names])) == [3, 2, 1, 0]


def test_a_folders_names_are_told_apart_by_what_is_not_their_step() -> None:
    names = ["a-step0.pt", "a-final.pt", "b_step-10.pt", "b_step-20.pt", "config-1.json", "optimizer-10.pt", "notes"]
    names += ["model-00001-of-00002.safetensors", ".step-3.pt"]
    assert series_of(names) == {"a": ["a-step0.pt", "a-final.pt"], "b": ["b_step-10.pt", "b_step-20.pt"]}


@given(st.text(max_size=300), st.dictionaries(st.sampled_from(COUNTERS), st.integers(0, 10**18 - 1)))
def test_any_name_has_a_step_or_none(name: str, counters: dict[str, int]) -> None:
    (step,) = steps_of([(name, counters)])
    assert step.number is None or 0 <= step.number <= 10**18
    assert isinstance(series_of([name]), dict)


# Counters in checkpoints.


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_counters_of_a_training_checkpoint_are_kept(tmp_path: Path, options: dict[str, Any]) -> None:
    state = {"model": mlp(), "epoch": 4, "global_step": 1200, "step": True, "iter": -1, "steps": 2.5, "iteration": 7.0}
    torch.save(state, tmp_path / "a.pt", **options)
    assert open_checkpoint(str(tmp_path / "a.pt")).counters == {"epoch": 4, "global_step": 1200, "iteration": 7}


def test_counters_below_the_outermost_mapping_are_not_taken(tmp_path: Path) -> None:
    torch.save({"model": mlp(), "args": {"step": 3}}, tmp_path / "a.pt")
    assert open_checkpoint(str(tmp_path / "a.pt")).counters == {}


def test_counters_in_the_metadata_of_safetensors_are_kept(tmp_path: Path) -> None:
    metadata = {"step": "700", "epoch": "-1", "iteration": "1" * 19, "iter": "³", "format": "pt"}
    safetensors.torch.save_file(mlp(), tmp_path / "a.safetensors", metadata)
    assert open_checkpoint(str(tmp_path / "a.safetensors")).counters == {"step": 700}


@given(st.lists(st.tuples(st.sampled_from((*COUNTERS, "other", 3)), st.one_of(st.integers(), st.floats(), st.text()))))
def test_whatever_is_counted_is_a_count(pairs: list[tuple[Any, Any]]) -> None:
    assert all(key in COUNTERS and 0 <= count < 10**18 for key, count in counters_in(pairs).items())


# Trajectories.


def written(folder: Path, factors: dict[str, float], **extra: Any) -> list[Path]:
    """The same network at different scales, by the names of the files."""
    return [
        saved(folder, name, {key: tensor * factor for key, tensor in mlp().items()} | extra)
        for name, factor in factors.items()
    ]


def test_changes_from_the_first_and_from_the_previous_step_in_closed_form(tmp_path: Path) -> None:
    paths = written(tmp_path, {"step-0.pt": 1.0, "step-10.pt": 2.0, "step-20.pt": 6.0, "step-30.pt": 6.0})
    steps = weightstats.trajectory(paths).steps
    assert [step.step.number for step in steps] == [0, 10, 20, 30]
    first, previous = ([getattr(step, name) for step in steps] for name in ("from_first", "from_previous"))
    assert (first[0], previous[0]) == (None, None)
    assert [one.relative_change for one in first[1:]] == pytest.approx([1.0, 5.0, 5.0], rel=1e-7)
    assert [one.relative_change for one in previous[1:]] == pytest.approx([1.0, 2.0, 0.0], rel=1e-7)
    assert [one.cosine for one in first[1:]] == pytest.approx([1.0, 1.0, 1.0])
    assert (previous[3].unchanged, previous[3].layers) == (5, 5)
    norms = [step.norm for step in steps]
    assert [norm / norms[0] for norm in norms] == pytest.approx([1, 2, 6, 6], rel=1e-7)
    assert norms[0] == pytest.approx(
        float(torch.cat([w.double().reshape(-1) for name, w in mlp().items() if "weight" in name]).norm()), rel=1e-7
    )


def test_every_step_has_the_fit_and_the_evenness_of_its_report() -> None:
    paths = [TRAINED / file_name(f"mlp-128-{state}") for state in ("step0", "final")]
    for path, step in zip(paths, weightstats.trajectory(paths).steps, strict=True):
        report = weightstats.inspect(path)
        assert step.fit == report.fit
        assert step.evenness == {name: split.evenness for name, split in report.penalties.items()}
        assert step.evenness_fitted == {name: split.evenness_fitted for name, split in report.penalties.items()}
        assert step.layers == len(report.layers)


def test_a_trajectory_of_two_is_their_comparison() -> None:
    paths = [TRAINED / file_name(f"cnn-{state}") for state in ("step0", "final")]
    last, total = weightstats.trajectory(paths).steps[1], weightstats.compare(*paths).total
    assert last.from_first is not None
    assert last.from_first == last.from_previous
    assert (last.from_first.relative_change, last.from_first.cosine) == (total.relative_change, total.cosine)
    assert [step.step.label for step in weightstats.trajectory(paths).steps] == ["epoch 0", "final (epoch 60)"]


def test_files_stay_in_the_order_in_which_they_are_given(tmp_path: Path) -> None:
    paths = written(tmp_path, {"step-20.pt": 2.0, "step-0.pt": 1.0, "step-10.pt": 3.0})
    assert [step.step.number for step in weightstats.trajectory(paths).steps] == [20, 0, 10]


def test_a_folder_is_put_in_order_and_what_is_no_step_is_listed(tmp_path: Path) -> None:
    written(tmp_path, {"net-step-1000.pt": 3.0, "net-step-20.pt": 2.0, "net-init.pt": 1.0, "net-final.pt": 4.0})
    (tmp_path / "net-step-30.pt").write_bytes(b"broken")
    (tmp_path / "log.txt").write_text("step 5")
    trajectory = weightstats.trajectory(tmp_path)
    assert [step.step.label for step in trajectory.steps] == ["step 0", "step 20", "step 1,000", "final"]
    assert [step.norm / trajectory.steps[0].norm for step in trajectory.steps] == pytest.approx([1, 2, 3, 4], rel=1e-6)
    skipped = {one.name: one.reason for one in trajectory.skipped}
    assert set(skipped) == {"net-step-30.pt", "log.txt"}
    assert skipped["log.txt"] == "tells of no step of this series"
    assert "not in a format that is read" in skipped["net-step-30.pt"]


def test_folders_in_a_folder_are_steps_too(tmp_path: Path) -> None:
    for number, factor in ((500, 1.0), (1500, 2.0)):
        (tmp_path / f"checkpoint-{number}").mkdir()
        written(tmp_path / f"checkpoint-{number}", {"model.safetensors": factor})
    assert [step.step.number for step in weightstats.trajectory(tmp_path).steps] == [500, 1500]


def test_a_folder_of_several_networks_is_a_usage_error_that_names_them() -> None:
    with pytest.raises(weightstats.UsageError, match=r"5 networks by their names, 'cnn' \(2\), 'lstm' \(2\)"):
        weightstats.trajectory(TRAINED)


@pytest.mark.parametrize("names", [[], ["a.pt"], ["step-1.pt"], ["a.pt", "b.pt"]])
def test_a_folder_without_two_steps_is_a_usage_error(tmp_path: Path, names: list[str]) -> None:
    written(tmp_path, dict.fromkeys(names, 1.0))
    with pytest.raises(weightstats.UsageError, match="no two names"):
        weightstats.trajectory(tmp_path)


def test_one_readable_step_is_too_few(tmp_path: Path) -> None:
    written(tmp_path, {"step-1.pt": 1.0})
    (tmp_path / "step-2.pt").write_bytes(b"broken")
    with pytest.raises(weightstats.UsageError, match=r"two checkpoints or more to see what changed: step-2\.pt "):
        weightstats.trajectory(tmp_path)


def test_one_checkpoint_is_a_usage_error(tmp_path: Path) -> None:
    (path,) = written(tmp_path, {"step-1.pt": 1.0})
    with pytest.raises(weightstats.UsageError, match="is one checkpoint"):
        weightstats.trajectory(path)
    with pytest.raises(weightstats.UsageError, match="two checkpoints or more"):
        weightstats.trajectory([path])


def test_a_named_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    paths = written(tmp_path, {"step-1.pt": 1.0, "step-2.pt": 1.0})
    with pytest.raises(weightstats.CheckpointError, match="absent"):
        weightstats.trajectory([*paths, tmp_path / "absent.pt"])


def findings(folder: Path, *states: dict[str, torch.Tensor]) -> tuple[str, ...]:
    """Of checkpoints that are saved as step 0, 1 ..."""
    return weightstats.trajectory([saved(folder, f"step-{at}.pt", one) for at, one in enumerate(states)]).findings


def test_that_nothing_changed_is_said_without_more(tmp_path: Path) -> None:
    said = "Nothing changed: all 5 layers are the same in all 3 checkpoints, element for element."
    assert findings(tmp_path, mlp(), mlp(), mlp()) == (said,)
    one = {"fc.weight": normal(4, 5)}
    assert findings(tmp_path, one, one) == (said.replace("all 5 layers are", "the one layer is").replace("3", "2"),)


def test_a_network_that_came_back_to_where_it_was_is_told_from_one_that_never_moved(tmp_path: Path) -> None:
    said = "From the first step to the last, none of 5 layers changed, though there was a change in between."
    assert findings(tmp_path, mlp(), mlp(1), mlp()) == (said,)


def test_a_layer_more_is_a_change(tmp_path: Path) -> None:
    assert "Nothing changed" not in findings(tmp_path, mlp(), mlp() | {"new.weight": normal(5, 6)})[0]


def test_the_findings_name_the_layers_that_moved_most(tmp_path: Path) -> None:
    factors = {"0": 1.0, "1": 1.5, "2": 4.0, "3": 3.0, "4": 1.25}
    after = {name: tensor * factors[name[0]] for name, tensor in mlp().items()}
    way, law = findings(tmp_path, mlp(), after)
    assert "most of all 2.weight by 3, 3.weight by 2, 1.weight by 0.5; 1 of 5 layers did not change." in way
    assert law.startswith("From step 0 to step 1, the layers ")


def test_the_layers_that_moved_most_are_kept_for_each_step_the_largest_change_first(tmp_path: Path) -> None:
    first = {f"{index}.weight": normal(6, 7 + index, seed=index) for index in range(8)}
    second = {name: tensor * (1 + int(name[0])) for name, tensor in first.items()}
    third = {name: tensor * (9 if name[0] == "1" else 1) for name, tensor in second.items()}
    paths = [saved(tmp_path, f"step-{at}.pt", one) for at, one in enumerate((first, second, third))]
    _, middle, last = weightstats.trajectory(paths).steps
    assert middle.from_first is not None
    assert [one.name for one in middle.from_first.largest] == [f"{index}.weight" for index in (7, 6, 5, 4, 3)]
    assert [one.relative_change for one in middle.from_first.largest] == pytest.approx([7, 6, 5, 4, 3])
    assert last.from_first is not None
    assert [one.name for one in last.from_first.largest][:2] == ["1.weight", "7.weight"]
    assert last.from_previous is not None
    assert [one.name for one in last.from_previous.largest] == ["1.weight"]
    assert last.from_previous.largest[0].relative_change == pytest.approx(8.0, rel=1e-6)


def test_a_checkpoint_of_another_network_is_named_first(tmp_path: Path) -> None:
    stranger = {f"x{index}.weight": normal(7, 9, seed=index) for index in range(5)}
    doubt, *_ = findings(tmp_path, mlp(), stranger, mlp(1))
    assert doubt == (
        "1 of 2 checkpoints after the first (step 1) has no layer in common with it, and may well be of another "
        "network."
    )
    doubt, *_ = findings(tmp_path, mlp(), stranger | {"0.weight": mlp()["0.weight"]}, mlp(1))
    assert "has no more than 1 layer in common" in doubt
    assert "may well be" not in " ".join(findings(tmp_path, mlp(), mlp(1)))


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("step-1.pt", "step-2.pt"), "The step of each is told by the checkpoints' names."),
        (("epoch-1.pt", "net-final.pt"), "The epoch of each is told by the checkpoints' names."),
        (("a/step-1/m.pt", "a/step-2/m.pt"), "The step of each is told by the folder step-1; the folder step-2."),
        (("one.pt", "two.pt"), "Nothing tells a step of each checkpoint: they are in the order given"),
    ],
)
def test_what_tells_the_steps_is_said(tmp_path: Path, names: tuple[str, str], said: str) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    paths = [saved(tmp_path, name, mlp(index)) for index, name in enumerate(names)]
    text = " ".join(trajectory_text.as_terminal(weightstats.trajectory(paths), 100).split())
    assert said in text


def test_layers_that_are_not_in_all_steps_are_counted(tmp_path: Path) -> None:
    first = saved(tmp_path, "step-0.pt", mlp())
    second = saved(tmp_path, "step-1.pt", {name: one for name, one in mlp(1).items() if not name.startswith("4")})
    last = weightstats.trajectory([first, second]).steps[1].from_first
    assert last is not None
    assert (last.layers, last.unmatched, last.unchanged) == (4, 1, 0)


def test_no_more_than_three_checkpoints_are_open_at_a_time(tmp_path: Path) -> None:
    paths = written(tmp_path, {f"step-{number}.pt": 1.0 + number for number in range(12)})
    most = 0

    def count(done: int, total: int) -> None:
        nonlocal most
        links = [os.path.realpath(f"/proc/self/fd/{name}") for name in os.listdir("/proc/self/fd")]
        most = max(most, len({link for link in links if "/step-" in link}))

    weightstats.trajectory(paths, progress=count)
    assert 0 < most <= 3


def test_live_modules_make_a_trajectory() -> None:
    modules = [torch.nn.Linear(20, 30), torch.nn.Linear(20, 30)]
    last = weightstats.trajectory(modules).steps[1]
    a, b = (module.weight.detach().double() for module in modules)
    assert last.from_first is not None
    assert last.from_first.relative_change == pytest.approx(float((b - a).norm() / a.norm()), rel=1e-6)


def test_layers_beyond_float64_have_no_norm_and_no_error(tmp_path: Path) -> None:
    state = {"fc.weight": torch.full((9, 8), 1e300, dtype=torch.float64)}
    state["fc.weight"][0] = 1e299
    paths = [saved(tmp_path, f"step-{number}.pt", {"fc.weight": state["fc.weight"] / number}) for number in (1, 2)]
    trajectory = weightstats.trajectory(paths)
    told = json.loads(json.dumps(trajectory.to_dict(), allow_nan=False))
    assert told["steps"][0]["norm"] is None
    assert told["steps"][1]["from_first"]["relative_change"] == pytest.approx(0.5)


# What is shown.


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Trajectory:
    folder = tmp_path_factory.mktemp("steps")
    written(folder, {"step-0.pt": 1.0, "step-1000.pt": 2.0, "step-20000.pt": 2.0})
    (folder / "\x1b[31mred.txt").write_text("")
    return weightstats.trajectory(folder)


@pytest.mark.parametrize("width", [60, 80, 100, 130, 160, 250])
def test_no_line_is_longer_than_the_terminal(shown: Trajectory, width: int) -> None:
    text = trajectory_text.as_terminal(shown, width)
    assert max(map(len, text.splitlines())) <= width
    assert "1,000" in text
    assert "20,000" in text
    assert "same" in text
    assert "\x1b" not in text
    assert r"\x1b[31mred.txt" in text
    assert bool(re.search(r"^ *20,000 .*undetermined", text, re.MULTILINE)) == (width >= 130)


def test_csv_has_a_line_a_step_with_all_digits(shown: Trajectory) -> None:
    first, second, third = csv.DictReader(io.StringIO(trajectory_text.as_csv(shown)))
    assert tuple(first) == trajectory_text.COLUMNS
    assert [row["step"] for row in (first, second, third)] == ["0", "1000", "20000"]
    assert (first["relative_change_from_first"], float(second["relative_change_from_first"])) == ("", 1.0)
    assert (third["unchanged_from_previous"], third["unit"]) == ("5", "step")
    assert float(first["exponent"]) == shown.steps[0].fit.exponent


def test_json_is_strict_and_has_the_schema(shown: Trajectory) -> None:
    told = json.loads(trajectory_text.as_json(shown))
    assert list(told) == ["schema", "version", "unit", "steps", "skipped", "findings"]
    assert told["schema"] == "weightstats/trajectory/1"
    assert [step["step"]["number"] for step in told["steps"]] == [0, 1000, 20000]
    assert math.isfinite(told["steps"][0]["fit"]["spread"])


def test_print_shows_the_table(shown: Trajectory) -> None:
    assert "scatter" in str(shown)


def test_the_command_takes_a_folder_and_several_files(tmp_path: Path) -> None:
    paths = written(tmp_path, {"step-0.pt": 1.0, "step-10.pt": 2.0, "step-20.pt": 2.0})
    done = run("compare", tmp_path, "--format", "json")
    assert (done.returncode, json.loads(done.stdout)["schema"]) == (0, "weightstats/trajectory/1")
    reversed_ = run("compare", *paths[::-1], "--format", "csv")
    assert [row["step"] for row in csv.DictReader(io.StringIO(reversed_.stdout))] == ["20", "10", "0"]
    assert "3 checkpoints, from " in " ".join(run("compare", *paths).stdout.split())
    assert run("compare", *paths, tmp_path / "absent").returncode == 3
    assert run("compare", TRAINED).returncode == 2
