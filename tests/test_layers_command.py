"""`weightstats layers`: what each tensor was taken for, and why, from the headers alone."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
import safetensors.torch
import torch
from builders import FIXTURES, random_tensors
from test_cli import run

import weightstats
from weightstats.renderers import layers_text

SILERO = FIXTURES / "published/silero-vad/silero_vad_16k.safetensors"
GATES = ["input", "forget", "cell", "output"]
EVIL = (
    "\x1b]0;title\x07\x1b[31mred.weight",
    "two\nlines\r\x00.weight",
    "\u202eright-to-left.weight",
    "=cmd|' /C calc'!A0",
    "漢字" * 60 + ".weight",
    "x" * 100_000 + ".weight",
)


def listing_of(folder: Path, shapes: dict[str, tuple[int, ...]]) -> weightstats.Listing:
    safetensors.torch.save_file(random_tensors(shapes), folder / "model.safetensors")
    return weightstats.list_layers(str(folder / "model.safetensors"))


def blocks(count: int) -> dict[str, tuple[int, ...]]:
    """Blocks with an LSTM each, the tensors of which are alike in all but their numbers."""
    return {
        f"blocks.{index}.lstm.{name}": shape
        for index in range(count)
        for name, shape in {"weight_ih_l0": (12, 5), "weight_hh_l0": (12, 3), "bias_ih_l0": (12,)}.items()
    }


def test_the_listing_has_the_layers_of_the_report() -> None:
    listing, report = weightstats.list_layers(str(SILERO)), weightstats.inspect(str(SILERO))
    assert [(one.name, one.kind, one.shape, one.n_in, one.n_out, one.fans_from) for one in listing.layers] == [
        (row.name, row.kind, row.shape, row.n_in, row.n_out, row.fans_from) for row in report.layers
    ]
    assert [one.because for one in listing.layers] == [row.kind_because for row in report.layers]
    assert [(one.name, one.because) for one in listing.others] == [(row.name, row.reason) for row in report.others]


def test_no_weight_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weightstats.tensors.Section.blocks", lambda *_, **__: pytest.fail("weights were read"))
    assert len(weightstats.list_layers(str(SILERO)).layers) == 13
    with pytest.raises(pytest.fail.Exception, match="weights were read"):
        weightstats.inspect(str(SILERO), workers=1)


def test_the_parts_of_a_fused_weight_stand_below_it() -> None:
    done = run("layers", SILERO, COLUMNS="160")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith("lstm_cell.weight_ih"))
    assert re.split(r"\s{2,}", lines[start])[:5] == ["lstm_cell.weight_ih", "512×128", "F32", "4 layers", "name"]
    assert all(line.startswith("  [") for line in lines[start + 1 : start + 5])
    assert sum("4 gates of 128" in line for line in lines) == 2
    assert [line.split()[:2] for line in lines[start + 1 : start + 5]] == [[f"[{gate}]", "128×128"] for gate in GATES]


def test_taken_as_stored_it_is_one_layer() -> None:
    done = run("layers", SILERO, "--as-stored", COLUMNS="160")
    assert "[input]" not in done.stdout
    assert "15 tensors = 7 layers + 8 others + 0 unread." in done.stdout


def test_the_sum_tells_tensors_from_the_layers_in_them() -> None:
    assert "15 tensors = 7 (holding 13 layers) + 8 others + 0 unread." in run("layers", SILERO).stdout


def test_on_a_narrow_terminal_the_reason_has_a_line_of_its_own() -> None:
    lines = run("layers", SILERO, COLUMNS="80").stdout.splitlines()
    start = lines.index("conv2.weight")
    assert lines[start + 1] == "  conv1d 64×128×3 F32, 384 → 192"
    assert lines[start + 2].startswith("  fans from shape: a kernel of 3 dimensions")
    assert lines[lines.index("conv2.bias") + 1] == "  bias 64 F32: added to a layer's output"


@pytest.mark.parametrize("width", [60, 80, 119, 120, 160, 300])
def test_no_line_is_longer_than_the_terminal_and_no_name_acts_on_it(width: int, tmp_path: Path) -> None:
    from rich.cells import cell_len

    torch.save({name: torch.ones(2, 3 + index) for index, name in enumerate(EVIL)}, tmp_path / "model.pt")
    text = layers_text.as_terminal(weightstats.list_layers(str(tmp_path / "model.pt")), width)
    assert max(cell_len(line) for line in text.splitlines()) <= width
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202a-\u202e]", text)
    assert "\\x1b[31mred.weight" in text.replace("\n", "").replace(" ", "")


def test_alike_blocks_are_one_entry_unless_all_are_asked_for(tmp_path: Path) -> None:
    listing = listing_of(tmp_path, blocks(12))
    text = layers_text.as_terminal(listing, 160)
    assert "blocks.{0..11}.lstm.weight_ih_l0 ×12" in text
    assert [text.count(f"[{gate}]") for gate in GATES] == [2] * 4
    assert "blocks.{0..11}.lstm.bias_ih_l0 ×12" in text
    every = layers_text.as_terminal(listing, 160, every=True)
    assert "blocks.11.lstm.weight_ih_l0" in every
    assert "×12" not in every


def test_a_few_blocks_are_not_folded(tmp_path: Path) -> None:
    assert "×" not in re.sub(r"\d×\d", "", layers_text.as_terminal(listing_of(tmp_path, blocks(2)), 160))


def test_a_stack_of_experts_is_one_line_for_its_maps(tmp_path: Path) -> None:
    shapes = {"moe.experts.w1": (48, 6, 8), "moe.experts.w2": (48, 8, 6)}
    rules = [{"match": "moe.*", "kind": "linear", "split": 48, "axis": 0}]
    safetensors.torch.save_file(random_tensors(shapes), tmp_path / "model.safetensors")
    listing = weightstats.list_layers(str(tmp_path / "model.safetensors"), rules=rules)
    text = layers_text.as_terminal(listing, 160)
    assert text.count("[{0..47}] ×48") == 2
    assert "2 tensors = 2 (holding 96 layers) + 0 others + 0 unread." in text


def test_reasons_that_differ_in_numbers_are_shown_with_their_range(tmp_path: Path) -> None:
    shared = {f"a.{index}.weight": torch.randn(4, 3) for index in range(41)}
    torch.save(shared | {name.replace("a", "b"): tensor for name, tensor in shared.items()}, tmp_path / "model.pt")
    text = layers_text.as_terminal(weightstats.list_layers(str(tmp_path / "model.pt")), 160)
    assert "a.{0..40}.weight ×41" in text
    assert "also stored as b.{0..40}.weight" in text
    assert "the same stored tensor as a.{0..40}.weight" in text


def test_json_is_strict_and_has_the_schema() -> None:
    listing = json.loads(run("layers", SILERO, "--format", "json").stdout)
    assert listing["schema"] == "weightstats/layers/1"
    assert listing["counts"] == {"tensors": 15, "with_layers": 7, "layers": 13, "others": 8, "unread": 0}
    gate = next(layer for layer in listing["layers"] if layer["name"] == "lstm_cell.weight_hh[cell]")
    assert (gate["part_of"], gate["stored_shape"], gate["shape"]) == ("lstm_cell.weight_hh", [512, 128], [128, 128])


def test_csv_has_a_line_for_each_layer_and_each_other_tensor(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run("layers", SILERO, "--format", "csv").stdout)))
    assert [row["list"] for row in rows] == ["layer"] * 13 + ["other"] * 8
    assert rows[4]["part_of"] == "lstm_cell.weight_ih"
    assert rows[-1]["because"] == "added to a layer's output"
    torch.save({"=1+1": torch.ones(2, 2)}, tmp_path / "model.pt")
    (row,) = csv.DictReader(io.StringIO(run("layers", tmp_path / "model.pt", "--format", "csv").stdout))
    assert row["name"] == "'=1+1"


def test_a_rule_is_the_reason_that_is_shown(tmp_path: Path) -> None:
    path = tmp_path / "rules.toml"
    path.write_text('[[rule]]\nmatch = "conv1.weight"\nkind = "linear"\nn_in = 3\nn_out = 4\n')
    done = run("layers", SILERO, "--rules", path, COLUMNS="160")
    assert re.search(
        r"conv1\.weight +128×129×3 +F32 +linear +3 +4 +rule +rule 1 of rules\.toml \(line 1\)", done.stdout
    )


def test_what_could_not_be_read_is_listed_with_the_reason(tmp_path: Path) -> None:
    header = json.dumps(
        {
            "a.weight": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
            "b.weight": {"dtype": "F13", "shape": [2, 2], "data_offsets": [16, 32]},
        }
    ).encode()
    (tmp_path / "m.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(32))
    done = run("layers", tmp_path / "m.safetensors")
    assert done.returncode == 0
    assert "Unread:\nb.weight\n  " in done.stdout
    assert "2 tensors = 1 layer + 0 others + 1 unread." in done.stdout


def test_a_file_that_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("nothing")
    done = run("layers", tmp_path / "text")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (3, "", 1)


def test_a_listing_prints_as_the_command_shows_it() -> None:
    listing = weightstats.list_layers(str(SILERO))
    assert str(listing) == layers_text.as_terminal(listing, 100)


def test_the_header_says_what_the_names_lack() -> None:
    text = run("layers", FIXTURES / "trained/lstm-final.pt").stdout
    assert "\nDropped from every name: module.\n" in text
    assert "\nlstm.weight_ih_l0\n" in text


def test_what_lies_beside_the_network_is_listed_too(tmp_path: Path) -> None:
    saved = {"model": {"fc.weight": torch.ones(3, 2)}, "optimizer": {"state": {0: {"exp_avg": torch.ones(3, 2)}}}}
    torch.save(saved, tmp_path / "model.pt")
    listing = weightstats.list_layers(str(tmp_path / "model.pt"))
    assert [(other.kind, other.shape) for other in listing.others] == [("optimizer", (3, 2))]
    assert "Network: model (" in str(listing)


def test_a_kind_that_a_rule_gives_is_shown_as_text(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(3, 2)}, tmp_path / "model.pt")
    rules = [{"match": "fc.weight", "kind": "\x1b[31mred"}]
    report = weightstats.inspect(str(tmp_path / "model.pt"), rules=rules)
    listing = weightstats.list_layers(str(tmp_path / "model.pt"), rules=rules)
    for text in (str(listing), str(report), report._repr_html_()):
        assert "\x1b" not in text
        assert "\\x1b[31mred" in text
