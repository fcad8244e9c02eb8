"""Whether a file tells what the classes of the live module say, on networks of public libraries."""

import gzip
import importlib
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import described_tensor

from weightstats.checkpoint import Checkpoint
from weightstats.layers import Layer, classify
from weightstats.network import find_network
from weightstats.order import natural_key

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = str(ROOT / "benchmarks")

NETWORKS: dict[str, Any] = json.loads(gzip.decompress((ROOT / "fixtures/architectures.json.gz").read_bytes()))
"""Names, shapes and classes of 471 networks of timm and transformers: benchmarks/selection.py."""

NOT_TOLD = {
    "timm/cpubone_nano": "convolutions in two groups, between blocks whose channels fit one group as well",
    "transformers/DbrxForCausalLM-small": "experts below each other in one matrix, which is compared as it is stored",
    "transformers/MgpstrForSceneTextRecognition-small": "narrow convolutions in groups",
    "timm/skresnet18": "parallel convolutions in two groups, where the stem gives out as many channels as one takes",
}
"""Networks of which a file tells fewer than nine in ten weights, with the reason."""


def compared(name: str) -> Iterator[tuple[str, bool]]:
    """Each tensor that the class or the file takes for a layer, and whether both say the same of it."""
    network = NETWORKS[name]
    tensors = tuple(
        described_tensor((tensor[0],), tuple(tensor[1]), tensor[2])
        for tensor in sorted(network["tensors"], key=lambda tensor: natural_key(tensor[0]))
    )
    checkpoint = Checkpoint("x", "x", 0, tensors, config={"config.json": network["config"]})
    told = {
        item.name: (item.kind, item.n_in, item.n_out)
        for item in classify(find_network(checkpoint, ""), as_stored=True)
        if isinstance(item, Layer)
    }
    for tensor, _, _, kind, n_in, n_out in network["tensors"]:
        if kind == "unknown":
            continue
        if n_in is None:
            if tensor in told and told[tensor][0] != "embedding":
                yield tensor, False
        elif n_in and n_out:
            yield tensor, told.get(tensor) == (kind, n_in, n_out)


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - NOT_TOLD.keys()))
def test_nine_in_ten_weights_of_every_network_are_told(name: str) -> None:
    found = list(compared(name))
    wrong = [tensor for tensor, agrees in found if not agrees]
    assert len(wrong) <= 0.1 * len(found), wrong[:5]


def test_what_is_not_told_is_still_not_told() -> None:
    for name in NOT_TOLD:
        found = list(compared(name))
        assert sum(not agrees for _, agrees in found) > 0.1 * len(found), f"{name} can leave the table"


def test_of_all_weights_995_in_1000_are_told() -> None:
    found = [agrees for name in NETWORKS for _, agrees in compared(name)]
    assert len(found) > 20_000
    assert sum(found) >= 0.995 * len(found)


# Live modules beside their files.

SELECTION = (
    *("BertForPreTraining", "DebertaForMaskedLM", "XLNetLMHeadModel", "FunnelForMaskedLM", "SqueezeBertForMaskedLM"),
    *("GPT2LMHeadModel", "GPTNeoXForCausalLM", "BloomForCausalLM", "LlamaForCausalLM", "Gemma2ForCausalLM"),
    *("MixtralForCausalLM", "Qwen3MoeForCausalLM", "GptOssForCausalLM", "Mamba2Model", "FalconMambaModel"),
    *("T5ForConditionalGeneration", "ViTModel", "SwinModel", "ResNetModel", "RegNetModel", "Wav2Vec2ForCTC"),
)
"""Classes of transformers, in small configurations."""


@pytest.fixture(scope="module")
def live() -> Iterator[Any]:
    """benchmarks/live.py, with the folder that it lies in importable."""
    sys.path.insert(0, BENCHMARKS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield importlib.import_module("live")
    finally:
        sys.path.remove(BENCHMARKS)


def built(live: Any, library: str, name: str) -> Any:
    """The first architecture of that name."""
    return next(one for one in importlib.import_module("architectures").architectures(library) if one.name == name)


@pytest.mark.parametrize("name", SELECTION)
def test_a_model_of_transformers_and_its_file_are_told_the_same(live: Any, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = list(live.met(built(live, "transformers", f"{name}-small"), measure=True))
    assert [met.format for met in found] == ["safetensors", "pt"]
    for met in found:
        assert met.tensors > 5
        assert met.differences == ()
        assert met.against_classes == ()


SILENT: dict[str, str] = {
    "bilinear": "tables and a bilinear map under names that say nothing",
    "capsules": "weights of capsules, in four dimensions",
    "grouped": "single convolutions in groups, with nothing around them",
    "grouped_alexnet": "a convolution in two groups that takes as many channels as another gives out",
    "pix2pix": "transposed convolutions at the heart of nested modules",
    "recommender": "tables called factors and biases",
    "shufflenet": "narrow convolutions in groups",
    "tied_language_model": "a table called encoder",
    "weight_normalised": "a first convolution of one channel, called conv, before one in groups",
    "transposed": "a transposed convolution without a bias or a norm",
}
"""Networks of benchmarks/architectures_torch.py whose files do not tell everything, with the reason."""


def test_networks_of_torchs_own_modules_and_their_files_are_told_the_same(live: Any) -> None:
    whole, partly = set(), set()
    for architecture in importlib.import_module("architectures").architectures("torch"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = list(live.met(architecture, measure=False))
        (partly if any(met.differences for met in found) else whole).add(architecture.name)
    assert partly <= SILENT.keys()
    assert len(whole) >= 40
