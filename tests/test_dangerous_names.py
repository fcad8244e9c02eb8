"""Names in a pickle that run code are told apart from those that are merely objects."""

import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click.testing
import numpy as np
import pytest
import torch

import weightstats
from weightstats import CheckpointError
from weightstats.cli import cli
from weightstats.schemas.dangerous_names import BUILTINS, danger, is_dangerous


class Calling:
    """Pickled, a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.mark.parametrize(
    "name",
    [
        *("os.system", "posix.system", "nt.system", "subprocess.Popen", "sys.modules", "pty.spawn", "runpy._run_code"),
        *("builtins.exec", "__builtin__.eval", "builtins.__import__", "builtins.getattr", "__builtin__.open"),
        *("importlib.import_module", "socket.create_connection", "shutil.rmtree", "webbrowser.open", "ctypes.CDLL"),
        *("pickle.loads", "_pickle.loads", "torch.load", "numpy.load", "numpy.f2py.crackfortran.getlincoef"),
        *("operator.attrgetter", "_io.FileIO", "code.InteractiveInterpreter.runcode", "bdb.Bdb.run", "pip.main"),
        *("torch.serialization.os.system", "torch._utils.builtins.eval", "_utils.builtins"),
    ],
)
def test_names_that_run_code_are_known(name: str) -> None:
    assert is_dangerous(name)


@pytest.mark.parametrize(
    "name",
    [
        *("argparse.Namespace", "fractions.Fraction", "pathlib.PosixPath", "_io.BytesIO", "builtins.bytearray"),
        *("numpy.random._pickle.__randomstate_ctor", "transformers.training_args.TrainingArguments", "code.weight"),
        *("ultralytics.nn.tasks.DetectionModel", "torch.nn.modules.linear.Linear", "osprey.system", "os", "epoch", ""),
        *("the link 'soft' to '/soft': not followed", "the entry '../evil.py': not opened"),
    ],
)
def test_other_names_are_objects(name: str) -> None:
    assert not is_dangerous(name)
    assert danger([name]) == ""


def test_every_builtin_counts_under_both_of_its_modules() -> None:
    assert all(is_dangerous(f"{module}.{name}") for module in ("builtins", "__builtin__") for name in BUILTINS)


def test_three_are_named_and_the_others_counted() -> None:
    names = [f"os.f{number}" for number in range(5)]
    assert danger(["argparse.Namespace", *names]) == (
        "names os.f0, os.f1, os.f2 and 2 more, which run code or touch files where they are loaded by pickle; "
        "nothing was loaded here"
    )


def test_the_warning_tells_what_runs_code_from_what_is_an_object(tmp_path: Path) -> None:
    file = tmp_path / "evil.pt"
    marker = tmp_path / "marker"
    evil = Calling(exec, f"open({str(marker)!r}, 'w')")
    torch.save({"w.weight": torch.ones(3, 4), "o": SimpleNamespace(), "e": evil}, file)
    part = weightstats.inspect(file).checkpoint
    assert set(part.objects_not_loaded) == {"types.SimpleNamespace", "__builtin__.exec"}
    assert part.warnings == (
        f"the file {danger(['__builtin__.exec'])}",
        "objects in the file were not loaded: types.SimpleNamespace",
    )
    assert not marker.exists()


@pytest.mark.parametrize("protocol", range(5))
def test_the_refusal_of_a_pickle_without_arrays_names_what_runs_code(protocol: int, tmp_path: Path) -> None:
    file = tmp_path / "evil.pkl"
    file.write_bytes(pickle.dumps([Calling(exec, "pass")], protocol))
    with pytest.raises(CheckpointError, match=r"holds no arrays: .*; it names \w+\.exec, which runs code or touches"):
        weightstats.inspect(file)


def test_the_refusal_of_a_pickle_of_objects_is_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "objects.pkl"
    file.write_bytes(pickle.dumps([SimpleNamespace(a=1)]))
    with pytest.raises(CheckpointError, match=r"that holds no arrays: not a checkpoint$"):
        weightstats.inspect(file)


@pytest.mark.parametrize("zipped", [True, False])
def test_the_refusal_of_a_torch_file_without_tensors_names_what_runs_code(zipped: bool, tmp_path: Path) -> None:
    file = tmp_path / "evil.pt"
    torch.save({"e": Calling(exec, "pass")}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"holds no tensors but objects .* it names __builtin__\.exec, which runs"
    ):
        weightstats.inspect(file)


def test_the_command_line_says_it(tmp_path: Path) -> None:
    file = tmp_path / "evil.pkl"
    file.write_bytes(pickle.dumps({"w": np.ones((3, 4), np.float32), "e": Calling(getattr, "a", "upper")}))
    result = click.testing.CliRunner().invoke(cli, ["inspect", str(file)])
    assert "warning: the file names builtins.getattr, which runs code" in result.stderr
