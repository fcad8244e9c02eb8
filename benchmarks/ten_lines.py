"""The script that people write today to see the mean squared weight of every layer; weightstats is compared with it."""

import sys

import torch
from safetensors.torch import load_file

path = sys.argv[1]
state = load_file(path) if path.endswith(".safetensors") else torch.load(path, map_location="cpu", weights_only=True)
for name, w in state.items():
    print(name, tuple(w.shape), w.float().pow(2).mean().item())
