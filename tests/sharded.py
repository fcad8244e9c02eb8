"""Writes one state with torch.distributed.checkpoint from four processes that each hold a part of it.

Run as a program, with the folder to write to; `state` is what the tests compare with.
"""

import sys
import warnings
from pathlib import Path

import torch

RANKS = 4


def state() -> dict[str, torch.Tensor]:
    """Every tensor whole."""
    chance = torch.Generator().manual_seed(1)
    shapes = {
        "rows.weight": (7, 5),
        "columns.weight": (6, 8),
        "both.weight": (5, 4),
        "norm.weight": (9,),
        "whole": (3, 4),
    }
    return {name: torch.randn(*shape, generator=chance) for name, shape in shapes.items()}


def write(rank: int, folder: str) -> None:
    """What one of the processes does."""
    warnings.simplefilter("ignore")
    import torch.distributed as dist
    from torch.distributed.checkpoint import FileSystemWriter, HuggingFaceStorageWriter, save
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    line, square = init_device_mesh("cpu", (RANKS,)), init_device_mesh("cpu", (2, RANKS // 2))
    parts = state()
    parts["rows.weight"] = distribute_tensor(parts["rows.weight"], line, [Shard(0)])
    parts["columns.weight"] = distribute_tensor(parts["columns.weight"], line, [Shard(1)])
    parts["both.weight"] = distribute_tensor(parts["both.weight"], square, [Shard(0), Shard(1)])
    parts["norm.weight"] = distribute_tensor(parts["norm.weight"], line, [Shard(0)])
    save({"model": parts, "epoch": 3}, storage_writer=FileSystemWriter(f"{folder}/distcp"))
    save(parts, storage_writer=HuggingFaceStorageWriter(f"{folder}/safetensors", save_distributed=True))
    dist.destroy_process_group()


if __name__ == "__main__":
    import torch.multiprocessing

    Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
    torch.multiprocessing.spawn(write, (sys.argv[1],), nprocs=RANKS)
