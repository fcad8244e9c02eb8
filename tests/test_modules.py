"""Live modules: what their classes say, and that their weights are measured as they are computed with."""

import gc
import math
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from torch.nn.utils import parametrizations, parametrize, prune

import weightstats
from weightstats import workers
from weightstats.effective_weights import spectral_norm, weight_norm
from weightstats.errors import CheckpointError
from weightstats.modules import read_module
from weightstats.report import LayerRow, Report

PAGE = Path(__file__).resolve().parent.parent / "docs" / "live-modules.md"


def named(**modules: nn.Module) -> nn.Module:
    return nn.ModuleDict(modules)


def rows(model: nn.Module) -> dict[str, LayerRow]:
    return {row.name: row for row in weightstats.inspect(model).layers}


def others(model: nn.Module) -> dict[str, tuple[str, str]]:
    return {row.name: (row.kind, row.reason) for row in weightstats.inspect(model).others}


def unread(report: Report) -> dict[str, str]:
    return {entry.name: entry.reason for entry in report.unread}


def mean_square(tensor: torch.Tensor) -> float:
    return float(tensor.detach().double().square().mean())


class Conv1D(nn.Module):
    """The linear layer of GPT-2 in transformers: the weight is (inputs, outputs)."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.nf = nf
        self.weight = nn.Parameter(torch.randn(nx, nf))
        self.bias = nn.Parameter(torch.zeros(nf))


FANS: dict[str, tuple[Callable[[], nn.Module], dict[str, tuple[str, int, int]]]] = {
    "linear": (lambda: nn.Linear(5, 3), {"m.weight": ("linear", 5, 3)}),
    "square linear": (lambda: nn.Linear(5, 5), {"m.weight": ("linear", 5, 5)}),
    "bilinear": (lambda: nn.Bilinear(5, 7, 3), {"m.weight": ("bilinear", 35, 3)}),
    "conv1d": (lambda: nn.Conv1d(4, 6, 5), {"m.weight": ("conv1d", 20, 30)}),
    "conv2d": (lambda: nn.Conv2d(4, 6, (2, 3)), {"m.weight": ("conv2d", 24, 36)}),
    "conv3d": (lambda: nn.Conv3d(4, 6, 2), {"m.weight": ("conv3d", 32, 48)}),
    "grouped conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2), {"m.weight": ("conv2d", 18, 27)}),
    "conv2d of one input": (lambda: nn.Conv2d(1, 6, 3), {"m.weight": ("conv2d", 9, 54)}),
    "depthwise conv1d": (lambda: nn.Conv1d(4, 8, 5, groups=4), {"m.weight": ("depthwise_conv1d", 5, 10)}),
    "depthwise conv2d": (lambda: nn.Conv2d(4, 4, 3, groups=4), {"m.weight": ("depthwise_conv2d", 9, 9)}),
    "conv transpose 1d": (lambda: nn.ConvTranspose1d(4, 6, 5), {"m.weight": ("conv_transpose1d", 20, 30)}),
    "conv transpose 2d": (
        lambda: nn.ConvTranspose2d(4, 6, 3, groups=2),
        {"m.weight": ("conv_transpose2d", 18, 27)},
    ),
    "conv transpose 3d": (lambda: nn.ConvTranspose3d(4, 6, 2), {"m.weight": ("conv_transpose3d", 32, 48)}),
    "embedding": (lambda: nn.Embedding(10, 4), {"m.weight": ("embedding", 10, 4)}),
    "embedding bag": (lambda: nn.EmbeddingBag(10, 4), {"m.weight": ("embedding", 10, 4)}),
    "Conv1D of transformers": (lambda: Conv1D(6, 4), {"m.weight": ("linear", 4, 6)}),
    "square Conv1D of transformers": (lambda: Conv1D(6, 6), {"m.weight": ("linear", 6, 6)}),
    "rnn": (
        lambda: nn.RNN(5, 3, bidirectional=True),
        {
            "m.weight_ih_l0": ("rnn", 5, 3),
            "m.weight_hh_l0": ("rnn", 3, 3),
            "m.weight_ih_l0_reverse": ("rnn", 5, 3),
            "m.weight_hh_l0_reverse": ("rnn", 3, 3),
        },
    ),
    "rnn cell": (lambda: nn.RNNCell(5, 3), {"m.weight_ih": ("rnn", 5, 3), "m.weight_hh": ("rnn", 3, 3)}),
    "lstm": (
        lambda: nn.LSTM(5, 3, proj_size=2),
        {f"m.weight_ih_l0[{gate}]": ("lstm", 5, 3) for gate in ("input", "forget", "cell", "output")}
        | {f"m.weight_hh_l0[{gate}]": ("lstm", 2, 3) for gate in ("input", "forget", "cell", "output")}
        | {"m.weight_hr_l0": ("linear", 3, 2)},
    ),
    "lstm cell": (
        lambda: nn.LSTMCell(5, 3),
        {f"m.weight_ih[{gate}]": ("lstm", 5, 3) for gate in ("input", "forget", "cell", "output")}
        | {f"m.weight_hh[{gate}]": ("lstm", 3, 3) for gate in ("input", "forget", "cell", "output")},
    ),
    "gru": (
        lambda: nn.GRU(5, 3),
        {f"m.weight_ih_l0[{gate}]": ("gru", 5, 3) for gate in ("reset", "update", "new")}
        | {f"m.weight_hh_l0[{gate}]": ("gru", 3, 3) for gate in ("reset", "update", "new")},
    ),
    "gru cell": (
        lambda: nn.GRUCell(5, 3),
        {f"m.weight_ih[{gate}]": ("gru", 5, 3) for gate in ("reset", "update", "new")}
        | {f"m.weight_hh[{gate}]": ("gru", 3, 3) for gate in ("reset", "update", "new")},
    ),
    "attention": (
        lambda: nn.MultiheadAttention(8, 2),
        {f"m.in_proj_weight[{part}]": ("linear", 8, 8) for part in "qkv"} | {"m.out_proj.weight": ("linear", 8, 8)},
    ),
    "attention to others": (
        lambda: nn.MultiheadAttention(8, 2, kdim=6, vdim=4),
        {
            "m.q_proj_weight": ("linear", 8, 8),
            "m.k_proj_weight": ("linear", 6, 8),
            "m.v_proj_weight": ("linear", 4, 8),
            "m.out_proj.weight": ("linear", 8, 8),
        },
    ),
}


@pytest.mark.parametrize("case", FANS)
def test_the_class_tells_kind_and_fans(case: str) -> None:
    make, expected = FANS[case]
    found = rows(named(m=make()))
    assert {name: (row.kind, row.n_in, row.n_out) for name, row in found.items()} == expected
    assert {row.fans_from for row in found.values()} == {"module"}


@pytest.mark.parametrize("case", FANS)
def test_mean_squares_are_those_of_torch(case: str) -> None:
    model = named(m=FANS[case][0]())
    own = dict(model.named_parameters())
    found = weightstats.inspect(model, as_stored=True).layers
    assert found
    for row in found:
        assert row.mean_square == pytest.approx(mean_square(own[row.name]), rel=1e-9)


@pytest.mark.parametrize(
    ("layer", "gates"),
    [(nn.LSTM(5, 3), ("input", "forget", "cell", "output")), (nn.GRU(5, 3), ("reset", "update", "new"))],
)
def test_the_gates_are_the_rows_that_torch_gives_them(layer: nn.LSTM | nn.GRU, gates: tuple[str, ...]) -> None:
    with torch.no_grad():
        for index in range(len(gates)):
            layer.weight_ih_l0[3 * index : 3 * index + 3] = index
    found = rows(layer)
    assert [found[f"weight_ih_l0[{gate}]"].mean for gate in gates] == list(range(len(gates)))


def test_attention_is_split_into_q_k_and_v_in_torchs_order() -> None:
    attention = nn.MultiheadAttention(4, 2)
    with torch.no_grad():
        attention.in_proj_weight[:] = torch.arange(12)[:, None] // 4
    found = rows(attention)
    assert [found[f"in_proj_weight[{part}]"].mean for part in "qkv"] == [0, 1, 2]


def test_what_is_not_multiplied_with_an_input_says_what_it_is() -> None:
    model = named(
        fc=nn.Linear(3, 2),
        bn=nn.BatchNorm1d(2),
        ln=nn.LayerNorm((2, 3)),
        gn=nn.GroupNorm(1, 4),
        act=nn.PReLU(2),
        attention=nn.MultiheadAttention(4, 2, add_bias_kv=True),
    )
    kinds = {name: kind for name, (kind, _) in others(model).items()}
    assert kinds == {
        "fc.bias": "bias",
        "bn.weight": "norm",
        "bn.bias": "bias",
        "bn.running_mean": "buffer",
        "bn.running_var": "buffer",
        "bn.num_batches_tracked": "buffer",
        "ln.weight": "norm",
        "ln.bias": "bias",
        "gn.weight": "norm",
        "gn.bias": "bias",
        "act.weight": "parameter",
        "attention.in_proj_bias": "bias",
        "attention.bias_k": "parameter",
        "attention.bias_v": "parameter",
        "attention.out_proj.bias": "bias",
    }


class MyRMSNorm(nn.Module):
    """As every library has its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


def test_a_normalisation_of_another_library_is_known_by_its_class() -> None:
    assert others(named(anything=MyRMSNorm()))["anything.weight"] == ("norm", "scale of the normalisation MyRMSNorm")


class Mixture(nn.Module):
    """A class that nobody knows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(6, 4))
        self.register_buffer("projection", torch.randn(4, 4))
        self.register_buffer("table", torch.arange(16).reshape(4, 4), persistent=False)


def test_an_unknown_class_leaves_it_to_names_and_shapes() -> None:
    row = rows(named(m=Mixture()))["m.weight"]
    assert (row.kind, row.n_in, row.n_out, row.fans_from) == ("linear", 4, 6, "shape")


def test_buffers_are_not_trained_and_those_that_are_not_saved_are_left_out() -> None:
    assert others(named(m=Mixture())) == {"m.projection": ("buffer", "a buffer of Mixture: not trained")}


class PackedLinear(nn.Linear):
    """A linear layer that keeps codes in place of its weight, as quantised ones do."""

    def __init__(self) -> None:
        super().__init__(8, 4)
        self.weight = nn.Parameter(torch.zeros(16, 1, dtype=torch.uint8), requires_grad=False)


def test_a_class_is_not_believed_where_the_shape_is_another() -> None:
    report = weightstats.inspect(named(m=PackedLinear()))
    assert [row.name for row in report.layers] == []


class CodedLinear(nn.Linear):
    """A linear layer that keeps 8-bit integers in place of its weight."""

    def __init__(self) -> None:
        super().__init__(8, 4, bias=False)
        self.weight = nn.Parameter(torch.ones(4, 8, dtype=torch.int8), requires_grad=False)


def test_codes_in_place_of_a_weight_are_not_measured_as_numbers() -> None:
    assert weightstats.inspect(CodedLinear()).layers == ()
    assert read_module(CodedLinear()).checkpoint.tensors[0].use is None


def test_factors_of_an_adapter_are_no_layers_of_their_own() -> None:
    model = named(fc=named(lora_A=named(default=nn.Linear(8, 2, bias=False))))
    row = rows(model)["fc.lora_A.default.weight"]
    assert (row.kind, row.fitted) == ("low_rank", False)
    assert read_module(model).checkpoint.tensors[0].use is None


def test_a_tied_parameter_is_counted_once_and_names_both() -> None:
    model = named(embedding=nn.Embedding(10, 4), head=nn.Linear(4, 10, bias=False))
    model["head"].weight = model["embedding"].weight  # type: ignore[index]
    report = weightstats.inspect(model)
    assert [(row.name, row.tied_to) for row in report.layers] == [("embedding.weight", ("head.weight",))]
    assert (report.checkpoint.tensors, report.checkpoint.bytes, report.checkpoint.parameters) == (2, 160, 40)


def test_a_module_with_two_names_is_counted_once() -> None:
    layer = nn.Linear(4, 3, bias=False)
    report = weightstats.inspect(named(a=layer, b=layer))
    assert [(row.name, row.tied_to, row.fans_from) for row in report.layers] == [("a.weight", ("b.weight",), "module")]


def test_views_of_one_storage_are_told_apart() -> None:
    whole = torch.arange(24.0).reshape(6, 4)
    model = named(a=nn.Linear(4, 3, bias=False), b=nn.Linear(4, 3, bias=False))
    model["a"].weight = nn.Parameter(whole[:3])  # type: ignore[index]
    model["b"].weight = nn.Parameter(whole[3:])  # type: ignore[index]
    assert [row.mean for row in weightstats.inspect(model).layers] == [5.5, 17.5]


def test_weights_that_are_not_contiguous_are_read_by_their_strides() -> None:
    model = named(fc=nn.Linear(4, 3, bias=False), conv=nn.Conv2d(4, 6, 3).to(memory_format=torch.channels_last))
    model["fc"].weight = nn.Parameter(torch.randn(9, 8)[::3, ::2])  # type: ignore[index]
    found = rows(model)
    for name in ("fc", "conv"):
        assert found[f"{name}.weight"].mean_square == pytest.approx(mean_square(model[name].weight))  # type: ignore[index]
    assert found["conv.weight"].shape == (6, 4, 3, 3)


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (torch.float64, "F64"),
        (torch.float16, "F16"),
        (torch.bfloat16, "BF16"),
        (torch.float8_e4m3fn, "F8_E4M3"),
        (torch.float8_e5m2, "F8_E5M2"),
    ],
)
def test_every_floating_type_is_read(dtype: torch.dtype, name: str) -> None:
    model = named(fc=nn.Linear(64, 32, bias=False))
    model["fc"].weight = nn.Parameter(torch.randn(32, 64).to(dtype), requires_grad=False)  # type: ignore[index]
    row = rows(model)["fc.weight"]
    assert (row.dtype, row.kind) == (name, "linear")
    assert row.mean_square == pytest.approx(mean_square(model["fc"].weight), rel=1e-6)  # type: ignore[index]


def test_complex_weights_are_measured_by_their_magnitudes_and_not_fitted() -> None:
    model = nn.Linear(4, 3, bias=False, dtype=torch.complex64)
    row = rows(model)["weight"]
    assert row.mean_square == pytest.approx(float(model.weight.detach().abs().square().mean()))
    assert not row.fitted


def test_a_meta_tensor_is_unread_with_its_reason() -> None:
    model = named(a=nn.Linear(4, 3, device="meta"), b=nn.Linear(3, 2, bias=False))
    report = weightstats.inspect(model)
    assert unread(report) == dict.fromkeys(("a.weight", "a.bias"), "it has no data (a meta tensor)")
    assert [row.name for row in report.layers] == ["b.weight"]


class DTensor(torch.Tensor):
    """As far as torch.distributed.tensor.DTensor is told by its methods."""

    def full_tensor(self) -> torch.Tensor:
        raise AssertionError("this would wait for the other processes")


def test_a_part_of_a_distributed_tensor_is_unread_with_its_reason() -> None:
    model = named(a=nn.Linear(4, 3, bias=False), b=nn.Linear(3, 2, bias=False))
    model["a"].weight = nn.Parameter(torch.randn(3, 4).as_subclass(DTensor))  # type: ignore[index]
    assert unread(weightstats.inspect(model)) == {"a.weight": "it is a DTensor: other processes hold parts of it"}


def test_a_sparse_parameter_counts_its_zeros() -> None:
    model = nn.Linear(4, 3, bias=False)
    with torch.no_grad():
        model.weight[:, 1:] = 0.0
    dense = model.weight.detach().clone()
    model.weight = nn.Parameter(dense.to_sparse())
    row = rows(model)["weight"]
    assert (row.zeros, row.mean_square) == (9, pytest.approx(mean_square(dense)))


def test_a_quantised_tensor_is_measured_as_the_numbers_it_stands_for() -> None:
    model = named(fc=nn.Linear(64, 32))
    with warnings.catch_warnings(action="ignore"):  # later versions of torch have none
        codes = torch.quantize_per_channel(
            torch.randn(32, 64), torch.linspace(0.01, 0.02, 32), torch.zeros(32, dtype=torch.int64), 0, torch.qint8
        )
    model["fc"].register_buffer("codes", codes)  # type: ignore[union-attr, operator]
    (row,) = (row for row in weightstats.inspect(model).layers if row.name == "fc.codes")
    assert (row.dtype, row.mean_square) == ("qint8", pytest.approx(mean_square(codes.dequantize()), rel=1e-6))


def test_a_lazy_module_that_has_seen_no_batch_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"Sequential: its module 1, LazyLinear, .* run one batch first"):
        weightstats.inspect(nn.Sequential(nn.Linear(3, 2), nn.LazyLinear(4)))


def test_a_lazy_module_that_has_seen_one_is_an_ordinary_one() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.LazyConv1d(2, 1))
    model[0](torch.zeros(1, 3))
    model[1](torch.zeros(1, 3, 4))
    assert {row.name: (row.n_in, row.n_out) for row in weightstats.inspect(model).layers} == {
        "0.weight": (3, 4),
        "1.weight": (3, 2),
    }


def test_a_module_without_parameters_is_an_error() -> None:
    with pytest.raises(CheckpointError, match="ReLU: has no parameters"):
        weightstats.inspect(nn.ReLU())


def test_the_report_says_what_was_inspected() -> None:
    model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    part = weightstats.inspect(model).checkpoint
    state = model.state_dict()
    assert (part.location, part.format, part.tensors) == ("Transformer", "torch module", len(state))
    assert part.bytes == sum(tensor.nelement() * tensor.element_size() for tensor in state.values())
    assert part.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_tensors_are_not_copied() -> None:
    model = nn.Linear(4, 3, bias=False)
    live = read_module(model)
    with torch.no_grad():
        model.weight.fill_(2.0)
    (tensor,) = live.checkpoint.tensors
    buffer = bytearray(8)
    tensor.storage.source.read_into(0, memoryview(buffer))
    assert torch.frombuffer(buffer, dtype=torch.float32).tolist() == [2.0, 2.0]


WORKED_OUT: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "weight norm": (lambda: parametrizations.weight_norm(nn.Conv2d(4, 6, 3)), "parametrizations.weight.original1"),
    "weight norm of a linear layer": (
        lambda: parametrizations.weight_norm(nn.Linear(4, 6), dim=None),
        "parametrizations.weight.original1",
    ),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(4, 6)), "parametrizations.weight.original"),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Linear(4, 6)), "parametrizations.weight.original"),
    "hooked weight norm": (lambda: hooked(nn.utils.weight_norm, nn.Conv1d(4, 6, 3)), "weight_v"),
    "hooked spectral norm": (lambda: nn.utils.spectral_norm(nn.ConvTranspose2d(4, 6, 3)), "weight_orig"),
    "pruning": (lambda: prune.random_unstructured(nn.Linear(4, 6), "weight", 0.5), "weight_orig"),
}


def hooked(change: Callable[[nn.Module], nn.Module], module: nn.Module) -> nn.Module:
    """torch.nn.utils.weight_norm, which warns that there is a newer one."""
    with pytest.warns(FutureWarning, match="weight_norm"):
        return change(module)


def disturbed(model: nn.Module) -> nn.Module:
    """The module after a step of training, in which what was computed before is out of date."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.7)
    return model


@pytest.mark.parametrize("case", WORKED_OUT)
def test_a_weight_is_measured_as_the_module_works_it_out(case: str) -> None:
    make, carrier = WORKED_OUT[case]
    torch.manual_seed(0)
    model = disturbed(named(m=make()))
    found = weightstats.inspect(model)
    # hooks set `weight` anew when the module is called; in eval mode, without a step of the power method
    module = model.eval()["m"]  # type: ignore[index]
    with torch.no_grad():
        module(torch.zeros(1, 4, *([9] * (module.weight.dim() - 2))))
    (row,) = found.layers
    assert row.name == f"m.{carrier}"
    assert row.shape == tuple(module.weight.shape)
    assert row.mean_square == pytest.approx(mean_square(module.weight), rel=1e-6)
    assert (row.fans_from, row.fitted) == ("module", True)


@pytest.mark.parametrize("case", WORKED_OUT)
@pytest.mark.parametrize("training", [True, False])
def test_the_module_is_left_as_it_is(case: str, training: bool) -> None:
    model = named(m=WORKED_OUT[case][0]()).train(training)
    if training:
        next(iter(model["m"].children()), model["m"]).training = False  # type: ignore[index] # modes that differ
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    weightstats.inspect(model)
    assert [module.training for module in model.modules()] == modes
    after = model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_parametrized_weight_takes_the_bytes_of_what_is_stored() -> None:
    model = parametrizations.weight_norm(nn.Linear(4, 6, bias=False))
    report = weightstats.inspect(model)
    assert (report.checkpoint.bytes, report.accounting.stored.bytes) == (4 * (24 + 6), 4 * (24 + 6))


@pytest.mark.parametrize(
    ("make", "scheme"),
    [
        (lambda: parametrizations.weight_norm(nn.Linear(4, 6)), weight_norm),
        (lambda: hooked(nn.utils.weight_norm, nn.Linear(4, 6)), weight_norm),
        (lambda: parametrizations.spectral_norm(nn.Linear(4, 6)), spectral_norm),
        (lambda: nn.utils.spectral_norm(nn.Linear(4, 6)), spectral_norm),
    ],
)
def test_a_module_and_its_file_say_the_same_of_a_normalised_weight(
    make: Callable[[], nn.Module], scheme: Any, tmp_path: Path
) -> None:
    model = disturbed(named(m=make()))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    live, stored = weightstats.inspect(model), weightstats.inspect(str(tmp_path / "model.pt"))
    (one,), (other,) = live.layers, stored.layers
    assert (one.name, one.n_in, one.n_out, one.scale_free_because) == (
        other.name,
        other.n_in,
        other.n_out,
        other.scale_free_because,
    )
    assert one.mean_square == pytest.approx(other.mean_square, rel=1e-5)
    assert one.kind_because.endswith(scheme.BECAUSE)
    assert other.kind_because.endswith(scheme.BECAUSE)
    assert {row.name: (row.kind, row.reason) for row in live.others if row.kind != "bias"} == {
        row.name: (row.kind, row.reason) for row in stored.others if row.kind != "bias"
    }


class Symmetric(nn.Module):
    """A parametrization of one's own."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.triu() + weight.triu(1).mT


class Broken(nn.Module):
    """One that fails once it is in use."""

    def __init__(self) -> None:
        super().__init__()
        self.works = True

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        if not self.works:
            raise RuntimeError("no such thing")
        return weight


def test_a_parametrization_of_ones_own_is_computed() -> None:
    model = nn.Linear(4, 4, bias=False)
    parametrize.register_parametrization(model, "weight", Symmetric())
    (row,) = weightstats.inspect(model).layers
    assert row.name == "parametrizations.weight.original"
    assert row.mean_square == pytest.approx(mean_square(model.weight))
    assert row.kind_because == "the module's class, Linear; parametrized by Symmetric"


def test_a_parametrized_weight_of_an_unknown_class_is_known_by_its_own_name() -> None:
    model = named(m=Mixture())
    parametrizations.weight_norm(model["m"])  # type: ignore[index]
    row = rows(model)["m.parametrizations.weight.original1"]
    assert (row.kind, row.fans_from, row.fitted) == ("linear", "shape", True)


def test_a_parametrization_that_fails_leaves_the_others_to_be_read() -> None:
    model = named(a=nn.Linear(4, 4, bias=False), b=nn.Linear(4, 3, bias=False))
    broken = Broken()
    parametrize.register_parametrization(model["a"], "weight", broken)  # type: ignore[index]
    broken.works = False
    report = weightstats.inspect(model)
    assert unread(report) == {"a.parametrizations.weight.original": "it cannot be worked out: no such thing"}
    assert [row.name for row in report.layers] == ["b.weight"]


def test_a_parametrized_module_with_two_names_is_counted_once() -> None:
    layer = parametrizations.weight_norm(nn.Linear(4, 3, bias=False))
    (row,) = weightstats.inspect(named(a=layer, b=layer)).layers
    assert row.tied_to == ("b.parametrizations.weight.original1",)


class Block(nn.Module):
    """A block that registers what it is given, in that order."""

    def __init__(self, **modules: nn.Module) -> None:
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)


def conv(n_in: int = 4, n_out: int = 4, **more: Any) -> nn.Module:
    return nn.Conv2d(n_in, n_out, 3, **{"bias": False, **more})


class StdConv2d(nn.Conv2d):
    """A convolution that standardises its weight, as in Big Transfer."""


SCALE_FREE: dict[str, tuple[Callable[[], nn.Module], dict[str, str]]] = {
    "neighbours in a sequence": (
        lambda: nn.Sequential(conv(bias=True), nn.BatchNorm2d(4), nn.ReLU(), conv()),
        {"0.weight": "followed by the batch normalisation 1"},
    ),
    "an activation function between": (lambda: nn.Sequential(conv(), nn.ReLU(), nn.BatchNorm2d(4)), {}),
    "another size": (lambda: nn.Sequential(conv(), nn.BatchNorm2d(8)), {}),
    "group normalisation": (
        lambda: nn.Sequential(conv(), nn.GroupNorm(2, 4)),
        {"0.weight": "followed by the group normalisation 1"},
    ),
    "group normalisation of a layer with a bias": (lambda: nn.Sequential(conv(bias=True), nn.GroupNorm(2, 4)), {}),
    "instance normalisation": (
        lambda: nn.Sequential(conv(), nn.InstanceNorm2d(4, affine=True)),
        {"0.weight": "followed by the instance normalisation 1"},
    ),
    "siblings": (
        lambda: Block(conv1=conv(), bn1=nn.BatchNorm2d(4), relu=nn.ReLU(), conv2=conv(), bn2=nn.BatchNorm2d(4)),
        {
            "conv1.weight": "followed by the batch normalisation bn1",
            "conv2.weight": "followed by the batch normalisation bn2",
        },
    ),
    "pre-activation": (
        lambda: Block(bn1=nn.BatchNorm2d(4), conv1=conv(), bn2=nn.BatchNorm2d(4), conv2=conv(), shortcut=conv()),
        {"conv1.weight": "followed by the batch normalisation bn2"},
    ),
    "pre-activation that registers its convolutions first": (
        lambda: Block(conv1=conv(4, 8), bn1=nn.BatchNorm2d(4), conv2=conv(8, 8), bn2=nn.BatchNorm2d(8)),
        {},
    ),
    "all convolutions first": (
        lambda: Block(conv1=conv(), conv2=conv(), bn1=nn.BatchNorm2d(4), bn2=nn.BatchNorm2d(4)),
        {
            "conv1.weight": "followed by the batch normalisation bn1",
            "conv2.weight": "followed by the batch normalisation bn2",
        },
    ),
    "a normalisation of another layer's number": (
        lambda: Block(conv1=conv(), conv2=conv(), bn1=nn.BatchNorm2d(4)),
        {"conv1.weight": "followed by the batch normalisation bn1"},
    ),
    "siblings with a bias": (lambda: Block(conv=conv(bias=True), bn=nn.BatchNorm2d(4)), {}),
    "a linear layer": (
        lambda: Block(fc1=nn.Linear(4, 3, bias=False), bn1=nn.BatchNorm1d(3)),
        {"fc1.weight": "followed by the batch normalisation bn1"},
    ),
    "a weight that is standardised": (
        lambda: Block(conv=StdConv2d(4, 4, 3)),
        {"conv.weight": "its class StdConv2d standardises its weight"},
    ),
    "queries and keys": (
        lambda: Block(
            q_proj=nn.Linear(4, 4, bias=False),
            k_proj=nn.Linear(4, 4, bias=False),
            v_proj=nn.Linear(4, 4, bias=False),
            q_norm=nn.LayerNorm(2),
            k_norm=nn.LayerNorm(2),
        ),
        {
            "q_proj.weight": "followed by the normalisation q_norm",
            "k_proj.weight": "followed by the normalisation k_norm",
        },
    ),
    "nested": (
        lambda: named(layer=nn.Sequential(OrderedDict(conv=conv(), bn=nn.BatchNorm2d(4)))),
        {"layer.conv.weight": "followed by the batch normalisation layer.bn"},
    ),
    "statistics that are constants": (
        lambda: nn.Sequential(conv(), FrozenBatchNorm2d(4)),
        {},
    ),
    "a transformer's layer": (lambda: nn.TransformerEncoderLayer(8, 2, 16, bias=False), {}),
}


class FrozenBatchNorm2d(nn.Module):
    """torchvision's: it scales by constants."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(num_features))


@pytest.mark.parametrize("case", SCALE_FREE)
def test_a_layer_whose_output_is_normalised_is_scale_free(case: str) -> None:
    make, expected = SCALE_FREE[case]
    found = {
        tensor.name: tensor.use.scale_free
        for tensor in read_module(make()).checkpoint.tensors
        if tensor.use is not None and tensor.use.scale_free
    }
    assert found == expected


def test_a_layer_that_is_used_elsewhere_too_is_not_scale_free() -> None:
    shared = conv()
    model = named(a=nn.Sequential(shared, nn.BatchNorm2d(4)), b=nn.Sequential(shared, nn.ReLU()))
    assert not rows(model)["a.0.weight"].scale_free


def test_the_report_shows_what_is_scale_free() -> None:
    row = rows(nn.Sequential(conv(), nn.BatchNorm2d(4)))["0.weight"]
    assert (row.scale_free, row.scale_free_because) == (True, "followed by the batch normalisation 1")


class Configured(nn.Linear):
    """A model with a configuration as transformers has them."""

    class Configuration:
        def to_dict(self) -> dict[str, Any]:
            return {"num_attention_heads": 4}

    config = Configuration()


class BadlyConfigured(nn.Linear):
    class Configuration:
        def to_dict(self) -> dict[str, Any]:
            raise RuntimeError("not today")

    config = Configuration()


def test_the_models_configuration_is_taken_for_its_config_json() -> None:
    assert read_module(Configured(2, 2)).checkpoint.config == {"config.json": {"num_attention_heads": 4}}
    assert read_module(BadlyConfigured(2, 2)).checkpoint.config == {}
    assert read_module(nn.Linear(2, 2)).checkpoint.config == {}


@pytest.mark.parametrize(
    ("adapters", "expected"),
    [
        ({"default": Configured.config}, {"adapter_config.json": {"num_attention_heads": 4}}),
        ({"one": Configured.config, "other": Configured.config}, {}),
    ],
)
def test_the_configuration_of_a_single_adapter_is_taken_for_its_adapter_config_json(
    adapters: dict[str, Any], expected: dict[str, Any]
) -> None:
    model = nn.Linear(2, 2)
    model.peft_config = adapters  # type: ignore[assignment]
    assert read_module(model).checkpoint.config == expected


def test_a_module_and_its_file_give_the_same_numbers(tmp_path: Path) -> None:
    model = nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(3, 8, 3, bias=False),
            bn=nn.BatchNorm2d(8),
            hidden=nn.Linear(8, 16),
            out=nn.Linear(16, 2),
        )
    )
    torch.save(model.state_dict(), tmp_path / "model.pt")
    live = weightstats.inspect(model).to_dict()
    stored = weightstats.inspect(str(tmp_path / "model.pt")).to_dict()
    for report in (live, stored):
        del report["checkpoint"]["location"], report["checkpoint"]["format"], report["checkpoint"]["bytes"]
        for layer in report["layers"]:
            del layer["fans_from"], layer["kind_because"]
        for other in report["others"]:
            del other["reason"]
    assert live == stored


def test_wrappers_are_taken_out_of_names_and_the_classes_still_known() -> None:
    model = nn.DataParallel(nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3))))
    report = weightstats.inspect(model)
    assert [(row.name, row.fans_from) for row in report.layers] == [("0.parametrizations.weight.original1", "module")]
    assert report.checkpoint.dropped_from_names == ("module.",)


def test_classes_are_known_where_a_wrapper_keeps_itself_out_of_the_names() -> None:
    model = named(a=checkpoint_wrapper(nn.Conv1d(1, 6, 3, bias=False)))
    assert list(model.state_dict()) == ["a.weight"]
    assert rows(model)["a.weight"].fans_from == "module"


def test_no_process_is_forked(monkeypatch: pytest.MonkeyPatch) -> None:
    def pool(*arguments: object) -> None:
        raise AssertionError("a process that runs torch must not be forked")

    monkeypatch.setattr(workers, "WORTH_SHARING", 0)
    monkeypatch.setattr(workers, "pool", pool)
    assert weightstats.inspect(nn.Linear(4, 3), workers=4).layers


def test_tensors_in_a_modules_extra_state_are_accounted_for() -> None:
    class Extra(nn.Linear):
        def get_extra_state(self) -> dict[str, Any]:
            return {"scale": torch.ones(3), "steps": 4}

    report = weightstats.inspect(Extra(2, 2))
    assert [row.name for row in report.others] == ["bias", "_extra_state.scale"]


def test_a_root_that_is_not_there_is_a_usage_error() -> None:
    with pytest.raises(weightstats.UsageError, match="no part of the checkpoint is called 'encoder'"):
        weightstats.inspect(nn.Linear(2, 2), root="encoder")


def test_inspecting_keeps_nothing_of_the_module() -> None:
    weightstats.inspect(nn.Linear(31, 37))
    gc.collect()
    held = [each for each in gc.get_objects() if type(each) is nn.Linear and each.in_features == 31]
    assert held == []


def test_the_page_on_live_modules_runs(capsys: pytest.CaptureFixture[str]) -> None:
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL))
    names: dict[str, Any] = {}
    exec(code, names)  # noqa: S102 - the project's own page
    assert [step for step, _, _ in names["history"]] == [0, 10, 20, 30]
    assert all(math.isfinite(exponent) for _, exponent, _ in names["history"])
    assert "step 30: exponent" in capsys.readouterr().out
