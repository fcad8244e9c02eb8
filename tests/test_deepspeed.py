"""DeepSpeed's folders, made as DeepSpeed 0.19.8 writes them (runtime/engine.py, `_common_checkpoint_state`)."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from makers import ending_soon, named_values, reasons

from weightstats.checkpoint import Checkpoint
from weightstats.errors import CheckpointError
from weightstats.places import open_folder
from weightstats.readers import deepspeed

WEIGHTS = {"0.weight": torch.arange(6.0).reshape(2, 3).bfloat16(), "0.bias": torch.ones(2).bfloat16()}


def model_states(module: Any) -> dict[str, Any]:
    """What `_common_checkpoint_state` puts together."""
    return {
        "module": module,
        "buffer_names": [],
        "optimizer": None,
        "param_shapes": [{name: tensor.shape for name, tensor in WEIGHTS.items()}],
        "frozen_param_shapes": None,
        "shared_params": {},
        "lr_scheduler": {"last_batch_iteration": 3},
        "global_steps": 3,
        "dp_world_size": 2,
        "mp_world_size": 1,
        "ds_config": {"train_batch_size": 8},
        "ds_version": "0.19.8",
    }


def optimizer_states(stage: int) -> dict[str, Any]:
    """What `_save_zero_checkpoint` writes for each rank."""
    flat = [torch.arange(4.0)]
    groups = {"fp32_flat_groups": flat} if stage == 3 else {"single_partition_of_fp32_groups": flat}
    moments = {"state": {0: {"exp_avg": torch.zeros(4)}}, "param_groups": []}
    state = {**groups, "base_optimizer_state": moments, "zero_stage": stage, "partition_count": 2}
    return {"optimizer_state_dict": state, "ds_config": {}, "ds_version": "0.19.8"}


def write(folder: Path, files: dict[str, Any], latest: str | None = None) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, folder / name)
    if latest is not None:
        (folder / "latest").write_text(latest)
    return folder


def read(folder: Path) -> Checkpoint:
    listed = open_folder(folder)
    assert deepspeed.recognises_folder(listed)
    return deepspeed.read_folder(listed)


def stage_two(step: str = "") -> dict[str, Any]:
    ranks = {f"{step}bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt": optimizer_states(2) for rank in range(2)}
    return {f"{step}mp_rank_00_model_states.pt": model_states(WEIGHTS), **ranks}


def test_the_sixteen_bit_model_is_read_under_the_key_that_it_has(tmp_path: Path) -> None:
    checkpoint = read(write(tmp_path, stage_two()))
    assert {tensor.path: tensor.dtype.name for tensor in checkpoint.tensors} == {
        ("module", "0.weight"): "BF16",
        ("module", "0.bias"): "BF16",
    }
    assert named_values(checkpoint)["module.0.weight"] == [0, 1, 2, 3, 4, 5]
    assert checkpoint.bytes == (tmp_path / "mp_rank_00_model_states.pt").stat().st_size


def test_the_partitions_that_are_left_alone_are_mentioned(tmp_path: Path) -> None:
    (warning,) = read(write(tmp_path, stage_two())).warnings
    assert "2 files were left alone: the state of the optimizer" in warning


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}], ids=["zip", "legacy"])
def test_both_formats_of_torch_save_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    torch.save(model_states(WEIGHTS), tmp_path / "mp_rank_00_model_states.pt", **options)
    assert named_values(read(tmp_path))["module.0.bias"] == [1, 1]


@pytest.mark.parametrize("tag", ["global_step20", "global_step20\n", "checkpoint", "runs/best"])
def test_latest_is_followed_into_the_folder_that_it_names(tmp_path: Path, tag: str) -> None:
    old = {"global_step3/mp_rank_00_model_states.pt": model_states({"old": torch.ones(1)})}
    folder = write(tmp_path, {**stage_two(f"{tag.strip()}/"), **old}, latest=tag)
    assert named_values(read(folder)).keys() == {"module.0.weight", "module.0.bias"}


def test_the_only_step_is_read_where_nothing_says_which(tmp_path: Path) -> None:
    assert len(read(write(tmp_path, stage_two("global_step7/"))).tensors) == 2


def test_several_steps_are_named_where_nothing_says_which(tmp_path: Path) -> None:
    folder = write(tmp_path, {**stage_two("global_step10/"), **stage_two("global_step9/")})
    with pytest.raises(CheckpointError, match=r"several steps of a training run; .*: global_step9, global_step10$"):
        read(folder)


@pytest.mark.parametrize(
    "tag", ["../outside", "/etc", "a/../../outside", "..", "link", "\\..\\outside", "a\0b", "\x1b[2J"]
)
def test_latest_may_not_lead_out_of_the_folder(tmp_path: Path, tag: str) -> None:
    write(tmp_path / "outside", stage_two())
    folder = write(tmp_path / "in", {"global_step1/x.pt": 1}, latest=tag)
    (folder / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(CheckpointError, match=r"latest names a folder outside of it|that its file latest names"):
        read(folder)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "outside of it"),
        (b"global_step2", "is not there"),
        (b"\xff\xfe", "does not hold"),
        (b"x" * 5000, "too many"),
    ],
)
def test_a_latest_that_names_nothing_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    folder = write(tmp_path, stage_two("global_step1/"))
    (folder / "latest").write_bytes(content)
    with pytest.raises(CheckpointError, match=problem):
        read(folder)


def test_files_that_are_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "outside", stage_two())
    (tmp_path / "in").mkdir()
    name = "mp_rank_00_model_states.pt"
    (tmp_path / "in" / name).symlink_to(tmp_path / "outside" / name)
    with pytest.raises(CheckpointError, match="link out of its own folder"):
        read(tmp_path / "in")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mp_rank_00_model_states.pt")
    with ending_soon(), pytest.raises(CheckpointError, match="not a regular file"):
        read(tmp_path)


def test_a_zero_3_checkpoint_is_refused_with_what_to_run(tmp_path: Path) -> None:
    empty = {name: torch.empty(0, dtype=torch.bfloat16) for name in WEIGHTS}
    files: dict[str, Any] = {}
    for rank in range(2):
        files[f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt"] = model_states(empty)
        files[f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"] = optimizer_states(3)
    with pytest.raises(
        CheckpointError, match=r"ZeRO-3 .* 2 partitions in the state of the optimizer; run .*zero_to_fp32"
    ):
        read(write(tmp_path, files))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("zero_pp_rank_0_mp_rank_00_model_states.pt", r"ZeRO-3 checkpoint without its \*_optim_states.pt"),
        ("zero_pp_rank_0_mp_rank_00_optim_states.pt", "holds no model: there are only 1 partitions"),
    ],
)
def test_a_folder_of_partitions_alone_says_what_is_missing(tmp_path: Path, name: str, problem: str) -> None:
    with pytest.raises(CheckpointError, match=problem):
        read(write(tmp_path, {name: {}}))


@pytest.mark.parametrize(
    "names",
    [
        ("mp_rank_00_model_states.pt", "mp_rank_01_model_states.pt"),
        ("layer_01-model_00-model_states.pt", "layer_01-model_01-model_states.pt", "mp_rank_00_model_states.pt"),
        ("mp_rank_00_model_states.pt", "layer_0_expert_0_mp_rank_01_model_states.pt"),
    ],
)
def test_tensor_parallel_pieces_are_refused_with_what_to_do(tmp_path: Path, names: tuple[str, ...]) -> None:
    with pytest.raises(
        CheckpointError, match=r"pieces of a tensor-parallel model.*; merge them first, or name one file"
    ):
        read(write(tmp_path, {name: model_states(WEIGHTS) for name in names}))


@pytest.mark.parametrize("middle", ["-model_00", ""])
def test_the_layers_of_a_pipeline_come_in_their_order(tmp_path: Path, middle: str) -> None:
    layers = {
        f"layer_{number}{middle}-model_states.pt": {"weight": torch.tensor([float(number)])} for number in (2, 10)
    }
    checkpoint = read(write(tmp_path, {"mp_rank_00_model_states.pt": model_states(None), **layers}))
    assert [tensor.path for tensor in checkpoint.tensors] == [("layer_2", "weight"), ("layer_10", "weight")]
    assert "1 file was left alone, as its model lies in others" in checkpoint.warnings[0]


def test_experts_stand_beside_the_rest_of_the_model(tmp_path: Path) -> None:
    experts = {
        f"layer_0_expert_{number}_mp_rank_00_model_states.pt": {f"moe.experts.{number}.weight": torch.ones(2, 2)}
        for number in range(2)
    }
    checkpoint = read(write(tmp_path, {"mp_rank_00_model_states.pt": model_states(WEIGHTS), **experts}))
    assert {tensor.path[0] for tensor in checkpoint.tensors} == {"module"}
    assert {"module.moe.experts.0.weight", "module.moe.experts.1.weight"} < named_values(checkpoint).keys()


def test_a_tensor_that_two_files_hold_is_refused(tmp_path: Path) -> None:
    expert = {"layer_0_expert_0_mp_rank_00_model_states.pt": {"0.bias": torch.ones(2)}}
    checkpoint = read(write(tmp_path, {"mp_rank_00_model_states.pt": model_states(WEIGHTS), **expert}))
    assert named_values(checkpoint).keys() == {"module.0.weight"}
    assert reasons(checkpoint) == {"module.0.bias": "2 files hold it"}


def test_a_damaged_file_costs_its_own_tensors(tmp_path: Path) -> None:
    files = {f"layer_0{number}-model_states.pt": {"weight": torch.ones(2)} for number in range(3)}
    folder = write(tmp_path, files)
    broken = folder / "layer_01-model_states.pt"
    broken.write_bytes(broken.read_bytes()[:200])
    checkpoint = read(folder)
    assert named_values(checkpoint).keys() == {"layer_00.weight", "layer_02.weight"}
    assert "damaged zip archive" in reasons(checkpoint)["layer_01-model_states.pt"]


def test_a_folder_without_a_file_that_can_be_read_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mp_rank_00_model_states.pt").write_bytes(b"<html>")
    with pytest.raises(
        CheckpointError, match=r"none of its files can be read; .* is not a file that torch.save has written"
    ):
        read(tmp_path)


def test_a_model_cut_short_anywhere_is_refused_or_unread(tmp_path: Path) -> None:
    file = write(tmp_path, {"mp_rank_00_model_states.pt": {"module": WEIGHTS}}) / "mp_rank_00_model_states.pt"
    content = file.read_bytes()
    for length in range(len(content)):
        file.write_bytes(content[:length])
        with pytest.raises(CheckpointError):
            read(tmp_path)


@pytest.mark.parametrize("whole", ["pytorch_model.bin", "model.safetensors", "model.safetensors.index.json"])
def test_whole_weights_beside_the_steps_come_first(tmp_path: Path, whole: str) -> None:
    folder = write(tmp_path, {**stage_two("global_step1/"), whole: {}}, latest="global_step1")
    assert not deepspeed.recognises_folder(open_folder(folder))


@pytest.mark.parametrize("latest", ["checkpoint", "", "../x", "x" * 9999])
def test_a_file_called_latest_alone_is_not_deepspeeds(tmp_path: Path, latest: str) -> None:
    folder = write(tmp_path, {"checkpoint/weights.pt": 1}, latest=latest)
    assert not deepspeed.recognises_folder(open_folder(folder))
