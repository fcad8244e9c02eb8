"""The layers as an Arrow table, as a data frame and as Parquet: all that is known of them, and nothing else."""

import csv
import io
import json
import math
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pandas
import pyarrow
import pyarrow.parquet
import pytest
import torch
from builders import FIXTURES, ROOT, report_of

import weightstats
from weightstats import extras, frames
from weightstats.errors import UsageError
from weightstats.initialisation import Initialisation
from weightstats.renderers import csv_text, parquet, renderer
from weightstats.report import LayerRow, Report

SURROGATE = "\ud800=1+1<script>\x1b[31m|\n\u202e.weight"


@pytest.fixture(scope="module")
def report() -> Report:
    return weightstats.inspect(str(FIXTURES / "made/mixed.pt"))


@pytest.fixture(scope="module")
def trained() -> Report:
    return weightstats.inspect(str(FIXTURES / "trained/cnn-step0.pt"))


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return report_of(tmp_path_factory.mktemp("empty"), {"bias": torch.zeros(3)})


def with_first(report: Report, **changes: Any) -> Report:
    """The report with another first layer."""
    first, *others = report.layers
    return replace(report, layers=(replace(first, **changes), *others))


def read(content: bytes) -> pyarrow.Table:
    return pyarrow.parquet.read_table(io.BytesIO(content))


def in_metadata(table: pyarrow.Table) -> Any:
    return json.loads(table.schema.metadata[frames.METADATA])


# Values


def test_a_layer_of_known_weights_has_them_in_its_row(tmp_path: Path) -> None:
    made = report_of(tmp_path, {"a.weight": torch.full((4, 2), 0.5), "b.weight": torch.tensor([[1.0, -3.0]])})
    rows = made.to_arrow().to_pylist()
    assert [row["name"] for row in rows] == ["a.weight", "b.weight"]
    assert [row["shape"] for row in rows] == [[4, 2], [1, 2]]
    assert [row["mean_square"] for row in rows] == [0.25, 5.0]
    assert [(row["n_in"], row["n_out"], row["elements"]) for row in rows] == [(2, 4, 8), (2, 1, 2)]
    assert [row["plain_share"] for row in rows] == [2 / 12, 10 / 12]
    assert [row["fitted"] for row in rows] == [False, True]
    assert "equal" in rows[0]["left_out_because"]
    assert rows[1]["left_out_because"] is None


def test_the_columns_have_types() -> None:
    table = weightstats.inspect(str(FIXTURES / "made/tied.pt")).to_arrow()
    types = {field.name: str(field.type) for field in table.schema}
    assert types["name"] == "string"
    assert types["kind"].startswith("dictionary<values=string")
    assert (types["shape"], types["tied_to"]) == ("list<element: int64>", "list<element: string>")
    assert (types["n_in"], types["ratio"], types["fitted"]) == ("int64", "double", "bool")
    assert max(len(names) for names in table.column("tied_to").to_pylist()) > 0


def test_the_columns_are_those_of_the_csv_and_then_what_else_the_json_has() -> None:
    count = len(csv_text.COLUMNS)
    assert tuple(frames.COLUMNS)[:count] == csv_text.COLUMNS
    flattened = {"penalties"}
    of_layers = {field.name for field in fields(LayerRow)} - flattened
    of_initialisation = {field.name for field in fields(Initialisation)} - {"state", "as_initialised"}
    assert {*frames.COLUMNS} >= of_layers | {f"initialisation_{name}" for name in of_initialisation}
    assert {*tuple(frames.COLUMNS)[count:]} <= of_layers | {f"initialisation_{name}" for name in of_initialisation}


@pytest.mark.parametrize("name", ["made/mixed.pt", "made/nonfinite.pt", "made/tied.pt", "trained/cnn-step0.pt"])
def test_the_values_are_those_of_the_csv(name: str) -> None:
    made = weightstats.inspect(str(FIXTURES / name))
    expected = list(csv.DictReader(io.StringIO(csv_text.render(made), newline="")))
    joined = {"shape": "x", "tied_to": " ", "initialiser": "; "}
    rows = made.to_arrow().to_pylist()
    for row in rows:
        row |= {column: between.join(map(str, row[column])) for column, between in joined.items()}
    assert [{column: csv_text.cell(row[column]) for column in csv_text.COLUMNS} for row in rows] == expected
    assert expected


def test_the_values_beyond_the_csv_are_those_of_the_json(trained: Report) -> None:
    for row, layer in zip(trained.to_arrow().to_pylist(), trained.to_dict()["layers"], strict=True):
        assert row["kind_because"] == layer["kind_because"]
        assert row["byte_order"] == "little"
        assert row["initialisation_candidates"] == layer["initialisation"]["candidates"]
        assert row["initialisation_because"] == layer["initialisation"]["because"]
        assert row["initialisation_nearest"] == layer["initialisation"]["nearest"]
    assert any(trained.to_arrow().column("initialisation_candidates").to_pylist())


def test_what_is_not_known_is_null_in_arrow_and_nan_in_pandas(tmp_path: Path) -> None:
    made = report_of(tmp_path, {"a.weight": torch.full((3, 2), math.nan), "b.weight": torch.tensor([[1.0, -3.0]])})
    column = made.to_pandas()["mean_square"]
    assert made.to_arrow().column("mean_square").to_pylist() == [None, 5.0]
    assert column.dtype == "float64"
    assert math.isnan(column[0])


def test_an_infinite_number_is_null_as_in_the_json(report: Report) -> None:
    changed = with_first(report, sum_of_squares=math.inf)
    assert changed.to_arrow().column("sum_of_squares")[0].as_py() is None


# Pandas


def test_a_data_frame_has_integers_categories_booleans_and_tuples(trained: Report) -> None:
    frame = trained.to_pandas()
    assert list(frame.columns) == list(frames.COLUMNS)
    assert len(frame) == len(trained.layers)
    assert (frame["n_in"].dtype, frame["fitted"].dtype) == ("int64", "bool")
    assert isinstance(frame["kind"].dtype, pandas.CategoricalDtype)
    assert frame.groupby("shape")["elements"].sum().to_dict() == {
        layer.shape: sum(other.elements for other in trained.layers if other.shape == layer.shape)
        for layer in trained.layers
    }
    assert frame["plain_share"].sum() == pytest.approx(1.0)


# Names from files


def test_names_are_as_in_the_file_but_for_what_utf8_cannot_hold(report: Report) -> None:
    changed = with_first(report, name=SURROGATE, tied_to=("\udfff", "x" * 1_000_000), part_of="\ud800")
    row = read(parquet.render(changed)).to_pylist()[0]
    assert row["name"] == SURROGATE.replace("\ud800", "\\ud800")
    assert row["tied_to"] == ["\\udfff", "x" * 1_000_000]
    assert row["part_of"] == "\\ud800"
    assert changed.to_pandas()["name"][0] == row["name"]


def test_the_metadata_holds_lone_surrogates_as_json_does(report: Report) -> None:
    changed = replace(report, others=(replace(report.others[0], name=SURROGATE), *report.others[1:]))
    assert in_metadata(read(parquet.render(changed)))["others"][0]["name"] == SURROGATE


def test_an_integer_of_more_than_64_bits_is_null(report: Report) -> None:
    changed = with_first(report, shape=(1 << 63, 7), n_in=(1 << 63) - 1, elements=1 << 100)
    table, frame = changed.to_arrow(), changed.to_pandas()
    assert table.column("shape")[0].as_py() == [None, 7]
    assert table.column("n_in")[0].as_py() == (1 << 63) - 1
    assert table.column("elements")[0].as_py() is None
    assert frame["elements"].dtype == "Int64"
    assert frame["elements"][1] == report.layers[1].elements
    assert frame["n_in"][0] == (1 << 63) - 1


# The rest of the report


def test_the_metadata_is_the_report_without_its_layers(report: Report) -> None:
    expected = json.loads(renderer("json").render(report))
    layers = expected.pop("layers")
    found = in_metadata(report.to_arrow())
    assert found == expected
    assert found["schema"] == "weightstats/report/1"
    assert len(layers) == report.to_arrow().num_rows


def test_the_largest_parts_of_too_long_a_metadata_are_left_out_and_named(
    report: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = replace(report, others=tuple(replace(report.others[0], name=f"{index}") for index in range(1_000)))
    whole = in_metadata(many.to_arrow())
    monkeypatch.setattr(frames, "MOST_METADATA", len(json.dumps(whole["others"])))
    found = in_metadata(many.to_arrow())
    assert found.pop("left_out_of_metadata") == ["others"]
    assert found == {key: value for key, value in whole.items() if key != "others"}


def test_a_report_without_layers_is_an_empty_table_of_the_same_columns(empty: Report, report: Report) -> None:
    assert empty.layers == ()
    assert read(parquet.render(empty)).num_rows == 0
    assert empty.to_arrow().schema.equals(report.to_arrow().schema, check_metadata=False)
    assert list(empty.to_pandas().columns) == list(frames.COLUMNS)
    assert empty.to_pandas()["n_in"].dtype == "int64"
    assert in_metadata(empty.to_arrow())["fit"]["verdict"] == "undetermined"


# Parquet


def test_parquet_is_the_arrow_table(report: Report) -> None:
    assert read(parquet.render(report)).equals(report.to_arrow(), check_metadata=True)


def test_parquet_is_compressed_with_zstd(report: Report) -> None:
    described = pyarrow.parquet.ParquetFile(io.BytesIO(parquet.render(report))).metadata
    assert {described.row_group(0).column(index).compression for index in range(described.num_columns)} == {"ZSTD"}


def test_pandas_reads_parquet_with_the_same_numbers(trained: Report) -> None:
    found = pandas.read_parquet(io.BytesIO(parquet.render(trained)))
    expected = trained.to_pandas()
    numbers = [name for name, holds in frames.COLUMNS.items() if holds in ("number", "integer", "boolean", "category")]
    pandas.testing.assert_frame_equal(found[numbers], expected[numbers])
    assert [tuple(shape) for shape in found["shape"]] == list(expected["shape"])


def test_the_same_report_gives_the_same_bytes_in_every_process(report: Report) -> None:
    code = (
        "import sys, weightstats\nfrom weightstats.renderers import parquet\n"
        "sys.stdout.buffer.write(parquet.render(weightstats.inspect(sys.argv[1])))"
    )
    made = [
        subprocess.run(
            [sys.executable, "-c", code, report.checkpoint.location],
            env=os.environ | {"PYTHONHASHSEED": seed},
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert made == [parquet.render(report)] * 2


# Without the extra


@pytest.mark.parametrize("make", [Report.to_arrow, Report.to_pandas, parquet.render])
def test_a_missing_extra_is_named(make: Any, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda extra: extra != "data")
    with pytest.raises(UsageError, match=r"needs the data extra: pip install 'weightstats\[data\]'"):
        make(report)
