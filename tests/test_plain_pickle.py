"""Pickles that torch did not write: their numpy arrays are read where they lie, and nothing else is made of them."""

import io
import pickle
import struct
import subprocess
import sys
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import joblib
import ml_dtypes
import numpy as np
import pytest
import torch
from makers import Call, ending_soon, named_values, reasons, values
from published import published
from sklearn.neural_network import MLPClassifier

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.places import File, open_file
from weightstats.readers import plain_pickle

COLLECTION = Path(__file__).parents[2] / "shared" / "hostile"
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def recognised(file: File) -> bool:
    return plain_pickle.recognises(file.read(0, min(512, file.size)), file)


def read(path: Path, content: bytes) -> Checkpoint:
    path.write_bytes(content)
    file = open_file(path)
    assert recognised(file)
    return plain_pickle.read(file)


CHANCE = np.random.default_rng(0)

ARRAYS: dict[str, Any] = {
    "float32": CHANCE.normal(size=(3, 4)).astype("f4"),
    "large": CHANCE.normal(size=(70, 80)).astype("f4"),
    "float64": CHANCE.normal(size=(2, 3, 4)),
    "float16": np.array([1.5, -2, np.inf], "f2"),
    "complex": np.array([3 + 4j, 1j], "c8"),
    "big-endian": np.array([1.25, -2.5], ">f8"),
    "big-endian integers": np.arange(5, dtype=">i4"),
    "bytes": np.arange(256, dtype="u1"),
    "truth": np.array([True, False]),
    "Fortran's order": np.asfortranarray(CHANCE.normal(size=(4, 5))),
    "large in Fortran's order": np.asfortranarray(CHANCE.normal(size=(70, 80))),
    "one number": np.array(2.5),
    "no elements": np.zeros((0, 3), "f4"),
    "bytes that are no ASCII": np.frombuffer(bytes(range(128, 256)), "<u4"),
    "newlines and quotes": np.frombuffer(b"'\n\"\\\\x0a\r'" + bytes(1), "u1"),
    "a matrix": np.matrix([[1.0, 2.0]]),
    "bfloat16": np.array([1.5, 2.5], ml_dtypes.bfloat16),
    "float8": np.array([1.5, 2.5], ml_dtypes.float8_e4m3fn),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("name", ARRAYS)
def test_an_array_is_read_as_numpy_has_it(tmp_path: Path, name: str, protocol: int) -> None:
    array = ARRAYS[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        content = pickle.dumps({"w": array, "again": [array]}, protocol)
    checkpoint = read(tmp_path / "f", content)
    expected = np.abs(array) if array.dtype.kind == "c" else array.astype("f8")
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    for tensor in checkpoint.tensors:
        assert tensor.shape == array.shape
        assert np.array_equal(values(tensor), np.asarray(expected).reshape(-1, order=order))
    assert [tensor.path for tensor in checkpoint.tensors] == [("w",), ("again", "0")]
    assert len({tensor.view for tensor in checkpoint.tensors}) == 1
    assert (checkpoint.format, checkpoint.unread, checkpoint.warnings) == ("pickle", (), ())


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_long_arrays_stay_in_the_file(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps([ARRAYS["large"]], protocol)
    (tensor,) = read(tmp_path / "f", content).tensors
    assert isinstance(tensor.storage.source, File)
    with changed_limits({"pickle_bytes": 1000}):
        assert np.array_equal(values(read(tmp_path / "f", content).tensors[0]), ARRAYS["large"].reshape(-1))


def test_what_is_beside_the_arrays_is_bounded(tmp_path: Path) -> None:
    content = pickle.dumps([ARRAYS["large"], "x" * 2000])
    with changed_limits({"pickle_bytes": 1000}), pytest.raises(CheckpointError, match="--limit pickle_bytes=N"):
        read(tmp_path / "f", content)


def test_a_moved_axis_of_protocol_5_is_read(tmp_path: Path) -> None:
    array = np.arange(24.0).reshape(2, 3, 4).transpose(1, 0, 2)
    (tensor,) = read(tmp_path / "f", pickle.dumps([array], 5)).tensors
    assert tensor.shape == (3, 2, 4)
    assert values(tensor).tolist() == [*range(24)]


def string_of_python_2(data: bytes) -> bytes:
    return b"S'" + b"".join(b"\\x%02x" % byte for byte in data) + b"'\n"


def python_2(data: bytes, written: bytes) -> bytes:
    """An array as numpy 1 pickled it on Python 2: the data is a string."""
    dtype = b"cnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
    made = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    return made + b"(I1\n(I%d\nt" % (len(data) // 4) + dtype + b"I00\n" + written + b"tb"


@pytest.mark.parametrize("size", [3, 3000])
def test_an_array_of_python_2_is_read(tmp_path: Path, size: int) -> None:
    array = CHANCE.normal(size=size).astype("<f4")
    data = array.tobytes()
    for written in (string_of_python_2(data), b"T" + struct.pack("<i", len(data)) + data):
        content = b"(lp0\n" + python_2(data, written) + b"a."
        assert np.array_equal(values(read(tmp_path / "f", content).tensors[0]), array)


def test_an_escape_that_python_is_about_to_forbid_warns_of_nothing(tmp_path: Path) -> None:
    content = b"(lp0\n" + python_2(b"\0\0\0\0", rb"S'\x00\0\0\o0'" + b"\n") + b"a."
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        checkpoint = read(tmp_path / "f", content)
    assert "bytes of data" in reasons(checkpoint)["0"]


# The parameters of scikit-learn and jax


def test_a_network_of_scikit_learn_has_its_weights(tmp_path: Path) -> None:
    chance = np.random.default_rng(1)
    network = MLPClassifier((5,), max_iter=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network.fit(chance.normal(size=(20, 4)), chance.integers(0, 3, 20))
    for file, kind in ((pickle.dumps(network), "pickle"), (dumped(network), "joblib")):
        checkpoint = read(tmp_path / "f", file)
        found = {tensor.name: tensor for tensor in checkpoint.tensors}
        assert [found[f"coefs_.{index}"].shape for index in (0, 1)] == [(4, 5), (5, 3)]
        assert np.array_equal(values(found["coefs_.0"]), network.coefs_[0].reshape(-1))
        assert checkpoint.format == kind
        assert "sklearn.neural_network._multilayer_perceptron.MLPClassifier" in checkpoint.objects_not_loaded


def dumped(thing: object) -> bytes:
    stream = io.BytesIO()
    joblib.dump(thing, stream)
    return stream.getvalue()


@pytest.mark.parametrize("name", sorted(ARRAYS.keys() - {"a matrix", "bfloat16", "float8"}))
def test_an_array_of_joblib_is_read(tmp_path: Path, name: str) -> None:
    array = ARRAYS[name]
    checkpoint = read(tmp_path / "f", dumped({"w": array, "words": np.array(["a", "bc"]), "more": ARRAYS["float64"]}))
    found = {tensor.name: tensor for tensor in checkpoint.tensors}
    expected = np.abs(array) if array.dtype.kind == "c" else array.astype("f8")
    order = "F" if array.flags.f_contiguous and not array.flags.c_contiguous else "C"
    assert found["w"].shape == array.shape
    assert np.array_equal(values(found["w"]), np.asarray(expected).reshape(-1, order=order))
    assert np.array_equal(values(found["more"]), ARRAYS["float64"].reshape(-1))
    assert reasons(checkpoint) == {"words": "it is an array of text, which is not read"}


def test_objects_between_the_arrays_of_joblib_are_passed_over(tmp_path: Path) -> None:
    thing = {"o": np.array([{"a": 1}, None], object), "w": ARRAYS["large"]}
    checkpoint = read(tmp_path / "f", dumped(thing))
    assert reasons(checkpoint) == {"o": "it is an array of Python objects, which is not read"}
    assert [tensor.name for tensor in checkpoint.tensors] == ["w"]


def test_lines_of_objects_between_the_arrays_of_joblib_are_passed_over(tmp_path: Path) -> None:
    objects = np.array([None], object)
    content = dumped({"o": objects, "w": ARRAYS["large"]})
    at = content.index(pickle.dumps(objects, 5))  # joblib's own protocol for them
    content = content[:at] + b"(lp0\nF1.5\naI1\na." + content[at + len(pickle.dumps(objects, 5)) :]
    checkpoint = read(tmp_path / "f", content)
    assert [tensor.name for tensor in checkpoint.tensors] == ["w"]


def test_an_array_of_jax_is_read(tmp_path: Path) -> None:
    function, arguments, state = np.arange(3.0).__reduce__()
    rebuilt = Call(_reconstruct_array, (function, arguments, state, {"weak_type": False}))
    content = pickle.dumps({"w": rebuilt}, 4)
    old, new = (len(name).to_bytes(1, "little") + name for name in (__name__.encode(), b"jax._src.array"))
    content = content[:2] + content[11:] if content[2:3] == b"\x95" else content  # a frame would have another length
    assert named_values(read(tmp_path / "f", content.replace(b"\x8c" + old, b"\x8c" + new))) == {"w": [0, 1, 2]}


def _reconstruct_array(*arguments: Any) -> None:
    """Named as the function of jax."""


# What is unread, refused or warned of


def reconstructed(shape: Any, dtype: Any, data: Any, order: Any = False, states: int = 1) -> Any:
    function, arguments, _ = np.zeros(1).__reduce__()
    made = Call(function, arguments, state=(1, shape, dtype, order, data))
    return made if states == 1 else Call(function, arguments)


F4 = np.dtype("f4")


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (reconstructed((3,), F4, bytes(16)), "it is an array of 12 bytes with 16 bytes of data"),
        (reconstructed((4,), F4, bytes(15)), "it needs 4 elements of a storage that holds 3"),
        (reconstructed((2**40, 2**40), F4, bytes(16)), "elements of a storage that holds 4"),
        (reconstructed((-4,), F4, bytes(16)), "is negative"),
        (reconstructed((2, -2), F4, bytes(16)), "is negative"),
        (reconstructed((1,) * 70, F4, bytes(4)), "it has 70 dimensions"),
        (reconstructed((4.0,), F4, bytes(16)), "its shape is not made of integers"),
        (reconstructed((True,), F4, bytes(4)), "its shape is not made of integers"),
        (reconstructed("4", F4, bytes(16)), "its shape is not made of integers"),
        (reconstructed((4,), "f4", bytes(16)), "its dtype is not one of numpy's"),
        (reconstructed((4,), None, bytes(16)), "its dtype is not one of numpy's"),
        (reconstructed((4,), Call(np.dtype, (7,)), bytes(16)), "its dtype is malformed"),
        (reconstructed((4,), Call(np.dtype, ("f4", False, True), state=(3, "x", None)), b""), "its dtype is malformed"),
        (reconstructed((4,), Call(np.dtype, ("f4",), state=(3,)), bytes(16)), "its dtype is malformed"),
        (reconstructed((4,), F4, "ā" * 16), "its data is a text that is not made of bytes"),
        (reconstructed((4,), F4, None), "it has no data"),
        (reconstructed((4,), F4, {}), "it has no data"),
        (reconstructed((4,), F4, [1.0, 2.0]), "it is made of Python objects"),
        (reconstructed((4,), F4, Call(bytearray, (16,))), "it has no data"),
        (reconstructed((4,), F4, bytes(16), order={}), "its order of elements is malformed"),
        (reconstructed((4,), F4, bytes(16), states=0), "it is an array with 0 states instead of one"),
        (np.zeros(2, "f4, i8"), "it is an array of records, which is not read"),
        (np.zeros(2, "M8[s]"), "it is an array of times"),
        (np.zeros(2, "g"), "it is an array of numpy's type f16, which is not read"),
        (np.array(["a"]), "it is an array of text, which is not read"),
        (np.array([b"a"]), "it is an array of text, which is not read"),
        (np.array([1, "a"], object), "it is an array of Python objects, which is not read"),
        (np.ma.masked_array([1.0, 2.0], [True, False]), "it is a masked array, which is not read"),
    ],
)  # fmt: skip
def test_an_array_that_is_not_read_is_listed_and_costs_no_other(tmp_path: Path, array: Any, reason: str) -> None:
    content = pickle.dumps({"bad": array, "good": np.ones(2)}, 4)
    with ending_soon():
        checkpoint = read(tmp_path / "f", content)
    assert reason in reasons(checkpoint)["bad"]
    assert named_values(checkpoint) == {"good": [1, 1]}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ((bytes(16), F4, (3,), "C"), "12 bytes with 16 bytes of data"),
        ((bytes(16), F4, (4,), "X"), "its order of elements is malformed"),
        ((bytes(16), F4, (2, 2), "K", (0, 0)), "its order of axes is malformed"),
        ((bytes(16), F4, (2, 2), "K", (0, 2)), "its order of axes is malformed"),
        ((bytes(16), F4, (2, 2), "K", (0,)), "its order of axes is malformed"),
        ((bytes(16), F4, (2, 2)), "it is a malformed array"),
        ((), "it is a malformed array"),
    ],
)
def test_an_array_of_a_buffer_that_is_malformed_is_unread(tmp_path: Path, arguments: Any, reason: str) -> None:
    content = pickle.dumps({"bad": Call(np._core.numeric._frombuffer, arguments), "good": np.ones(2)}, 5)
    checkpoint = read(tmp_path / "f", content)
    assert reason in reasons(checkpoint)["bad"]
    assert named_values(checkpoint) == {"good": [1, 1]}


def test_a_tensor_of_torch_in_a_plain_pickle_is_listed(tmp_path: Path) -> None:
    content = pickle.dumps({"w": torch.ones(3), "a": np.ones(2)})
    checkpoint = read(tmp_path / "f", content)
    assert reasons(checkpoint) == {"w": "its storage is a whole torch file inside the pickle, which is not opened"}
    assert named_values(checkpoint) == {"a": [1, 1]}


def test_bytes_behind_the_pickle_are_warned_of(tmp_path: Path) -> None:
    content = pickle.dumps([np.ones(2)]) + pickle.dumps([np.ones(3)])
    checkpoint = read(tmp_path / "f", content)
    assert named_values(checkpoint) == {"0": [1, 1]}
    behind = len(pickle.dumps([np.ones(3)]))
    assert checkpoint.warnings == (f"the {behind:,} bytes after the end of the pickle are not looked at",)


@pytest.mark.parametrize("thing", [{"a": 1}, [], ["text"], OrderedDict(a=(1, 2.5)), {"scalar": np.float32(1)}])
def test_a_pickle_without_arrays_is_refused(tmp_path: Path, thing: object) -> None:
    for protocol in PROTOCOLS:
        with pytest.raises(CheckpointError, match=r"is a plain pickle, not written by torch\.save, that holds no"):
            read(tmp_path / "f", pickle.dumps(thing, protocol))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"(",
        b"(a list of words, in brackets)\n",
        b"copyright 2020 by nobody\nall rights reserved\n",
        b"c = 1\nd = 2\n",
        b"config.json\nmodel.bin\n",
        b"[1, 2, 3]",
        b"]\n",
        b"}",
        b"(define (f x) x)",
        b"(1, 2)\n",
        b"\x80",
        b"\x80\x04",
        b"\x80\x06\x95",
        b"\x80\x02\xff",
        b"\x80\x02 text",
        b"hello",
        b"N.",
        b"I1\n.",
        b"\x89HDF\r\n\x1a\n",
        b"PK\x03\x04",
        bytes(600),
        b"c" * 100_000,
        b"(" * 100_000 + b"x",
    ],
    ids=lambda content: repr(content[:20]),
)
def test_other_files_are_not_recognised(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "f").write_bytes(content)
    with ending_soon():
        assert not recognised(open_file(tmp_path / "f"))


def test_text_is_not_recognised(tmp_path: Path) -> None:
    """None of Python's own modules, whatever its first byte is made to be, looks like a pickle of protocol 0."""
    found = []
    for path in sorted(Path(pickle.__file__).parent.glob("*.py"))[:150]:
        for start in (b"", b"(", b"c", b"]", b"}"):
            (tmp_path / "f").write_bytes(start + path.read_bytes()[:20_000])
            if recognised(open_file(tmp_path / "f")):
                found.append((path.name, start))
    assert found == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_pickle_cut_anywhere_is_refused_in_one_line(tmp_path: Path, protocol: int) -> None:
    content = pickle.dumps({"w": ARRAYS["float32"], "x": ARRAYS["large in Fortran's order"]}, protocol)
    for size in [*range(400), *range(400, len(content), 1501), *range(len(content) - 100, len(content))]:
        (tmp_path / "f").write_bytes(content[:size])
        file = open_file(tmp_path / "f")
        recognised(file)
        with pytest.raises(CheckpointError) as caught:
            plain_pickle.read(file)
        assert str(caught.value).isprintable()


def test_a_file_of_joblib_cut_anywhere_is_refused_in_one_line(tmp_path: Path) -> None:
    content = dumped({"w": ARRAYS["float32"], "o": np.array([None]), "x": ARRAYS["large"]})
    for size in [*range(1200), *range(1200, len(content), 1501), *range(len(content) - 100, len(content))]:
        (tmp_path / "f").write_bytes(content[:size])
        with pytest.raises(CheckpointError) as caught:
            plain_pickle.read(open_file(tmp_path / "f"))
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("make", [pickle.dumps, dumped])
def test_a_changed_byte_costs_arrays_or_the_file_and_nothing_else(tmp_path: Path, make: Any) -> None:
    content = make({"w": ARRAYS["float32"], "x": ARRAYS["big-endian"], "y": ARRAYS["Fortran's order"]})
    for place in range(len(content)):
        for change in (0x01, 0x80, 0xFF):
            changed = bytearray(content)
            changed[place] ^= change
            (tmp_path / "f").write_bytes(changed)
            file = open_file(tmp_path / "f")
            recognised(file)
            try:
                named_values(plain_pickle.read(file))
            except CheckpointError as error:
                if not str(error).isprintable():
                    raise


@pytest.mark.parametrize(
    "described",
    [{}, {"shape": (2**62,), "dtype": np.dtype("f8"), "order": "C"}, {"shape": (-1,), "dtype": F4, "order": "C"}],
)
def test_an_array_of_joblib_that_lies_is_refused(tmp_path: Path, described: dict[str, Any]) -> None:
    wrapper = Call(joblib.numpy_pickle.NumpyArrayWrapper, (), state=described)
    with ending_soon(), pytest.raises(CheckpointError, match="is one of joblib, and"):
        read(tmp_path / "f", pickle.dumps([wrapper], 4))


def test_a_length_beyond_the_file_allocates_nothing(tmp_path: Path) -> None:
    for opcode in (b"B\xff\xff\xff\xff", b"\x8e" + struct.pack("<Q", 2**62), b"\x96" + struct.pack("<Q", 2**63)):
        with ending_soon(), pytest.raises(CheckpointError, match="is malformed"):
            read(tmp_path / "f", b"\x80\x05]" + opcode + b"abc")


def test_reading_imports_nothing_that_the_pickle_names(tmp_path: Path) -> None:
    thing = {"w": np.ones(2), "p": Call(OrderedDict, ())}
    content = pickle.dumps(thing, 2).replace(b"collections", b"antigravity").replace(b"OrderedDict", b"fly_away_no")
    (tmp_path / "f").write_bytes(content)
    code = (
        "import sys; from pathlib import Path; from weightstats.places import open_file; "
        "from weightstats.readers import plain_pickle; c = plain_pickle.read(open_file(Path('f'))); "
        "sys.exit(str((len(c.tensors), c.objects_not_loaded, 'antigravity' in sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "(1, ('antigravity.fly_away_no',), False)"


@pytest.mark.skipif(not COLLECTION.exists(), reason="the collection of hostile files is not beside the project")
def test_the_hostile_pickles_are_refused_or_hold_no_number_that_is_wrong() -> None:
    outcomes: dict[str, str] = {}
    with ending_soon(30):
        for path in sorted((COLLECTION / "files").glob("*.pkl")):
            file = open_file(path)
            assert recognised(file) or file.read(0, 1) != b"\x80", path.name
            try:
                outcomes[path.name] = f"read {len(plain_pickle.read(file).tensors)}"
            except CheckpointError as error:
                outcomes[path.name] = "refused"
                if not str(error).isprintable():
                    raise
    assert len(outcomes) > 60
    assert {outcome for outcome in outcomes.values() if outcome.startswith("read")} <= {"read 0", "read 1"}


@pytest.mark.filterwarnings("ignore")
def test_a_published_model_of_scikit_learn_is_read_as_joblib_loads_it() -> None:
    """alt-profanity-check 1.9.1: an ensemble of linear classifiers."""
    digest = "aeafc04849d4d93db4721cf30a86ebf22085595294b8a07d51918e7fa98f538b"
    path = published("alt-profanity-check", "1.9.1", "profanity_check/data/model.joblib", digest)
    file = open_file(path)
    assert recognised(file)
    checkpoint = plain_pickle.read(file)
    model = joblib.load(path)
    found = named_values(checkpoint)
    for index, part in enumerate(model.calibrated_classifiers_):
        assert found[f"calibrated_classifiers_.{index}.estimator.coef_"] == part.estimator.coef_.reshape(-1).tolist()
        assert found[f"calibrated_classifiers_.{index}.estimator.intercept_"] == part.estimator.intercept_.tolist()
    assert (checkpoint.format, checkpoint.unread, checkpoint.warnings) == ("joblib", (), ())
