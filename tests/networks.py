"""Small networks in float64, from a seed, with what they learn."""

import warnings
from collections.abc import Callable

import torch
from torch import nn
from torch.nn.utils import parametrizations


class Recurrent(nn.Module):
    """An embedding, an LSTM or GRU of two layers, and a linear layer on its last output."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 5)
        self.recurrent = kind(5, 7, num_layers=2, batch_first=True)
        self.head = nn.Linear(7, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        output: torch.Tensor = self.head(self.recurrent(self.embedding(inputs))[0][:, -1])
        return output


class Attention(nn.Module):
    """Self-attention, whose q, k and v are one parameter, and whose output embedding is the input's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 11, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        hidden = self.embedding(inputs)
        hidden = self.norm(hidden + self.attention(hidden, hidden, hidden, need_weights=False)[0])
        output: torch.Tensor = self.head(hidden.mean(1))
        return output


def mlp() -> nn.Module:
    """Three linear layers with a norm."""
    return nn.Sequential(nn.Linear(8, 12), nn.LayerNorm(12), nn.Tanh(), nn.Linear(12, 5), nn.Tanh(), nn.Linear(5, 3))


def convolutions() -> nn.Module:
    """A convolution, a depthwise one, a transposed one in groups, batch normalisations, a linear layer."""
    body = (nn.Conv1d(1, 4, 3), nn.BatchNorm1d(4), nn.Tanh(), nn.Conv1d(4, 4, 3, groups=4), nn.Tanh())
    return nn.Sequential(
        *body, nn.ConvTranspose1d(4, 6, 2, groups=2), nn.BatchNorm1d(6), nn.Flatten(), nn.Linear(30, 3)
    )


def normalised() -> nn.Module:
    """Weight-normalised layers: in both of torch's ways, and along no dimension."""
    with warnings.catch_warnings(action="ignore", category=FutureWarning):
        old = nn.utils.weight_norm(nn.Linear(12, 5))
    return nn.Sequential(
        parametrizations.weight_norm(nn.Linear(8, 12)),
        *(nn.Tanh(), old, nn.Tanh()),
        parametrizations.weight_norm(nn.Linear(5, 3), dim=None),  # type: ignore[arg-type]
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], Callable[[], torch.Tensor]]] = {
    "mlp": (mlp, lambda: torch.randn(16, 8, dtype=torch.float64)),
    "convolutions": (convolutions, lambda: torch.randn(16, 1, 8, dtype=torch.float64)),
    "lstm": (lambda: Recurrent(nn.LSTM), lambda: torch.randint(11, (16, 5))),
    "gru": (lambda: Recurrent(nn.GRU), lambda: torch.randint(11, (16, 5))),
    "attention": (Attention, lambda: torch.randint(11, (16, 5))),
    "normalised": (normalised, lambda: torch.randn(16, 8, dtype=torch.float64)),
}


def network(name: str) -> nn.Module:
    """The network of that name, the same at each call."""
    torch.manual_seed(0)
    return NETWORKS[name][0]().double()


def inputs_of(name: str) -> torch.Tensor:
    """What that network is trained with, the same at each call."""
    torch.manual_seed(1)
    return NETWORKS[name][1]()


def trained(
    model: nn.Module,
    inputs: torch.Tensor,
    optimizer: torch.optim.Optimizer,
    penalty: Callable[[], torch.Tensor] = lambda: torch.zeros(()),
    steps: int = 30,
) -> nn.Module:
    """The model after some steps on a task of random classes, with a penalty in the loss."""
    targets = torch.arange(len(inputs)) % 3
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs), targets) + penalty()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return model
