"""How much reading a checkpoint is worth: no more than its stored bytes warrant, whatever its tensors claim to show."""

from collections.abc import Sequence

from weightstats.limits import LIMITS, over
from weightstats.tensors import Tensor


def beyond_budget(tensors: Sequence[Tensor], stored_bytes: int) -> dict[int, str]:
    """Why some of the tensors are not to be read, by their index: reading them all would take too many bytes.

    A view costs the bytes from its first to its last element, a view of a compressed storage all those before it as
    well, since they have to be inflated again. The budget is LIMITS.expansion times `stored_bytes`, the bytes of the
    checkpoint's files, and LIMITS.expanded_bytes beside; whole storages that are stored as they are always fit it.
    """
    budget = LIMITS.expansion * stored_bytes + LIMITS.expanded_bytes
    refused = {}
    for index, tensor in enumerate(tensors):
        cost = tensor.reach
        if cost > budget:
            refused[index] = f"reading it takes the bytes to be read, or inflated, to {over('expanded_bytes')}"
        else:
            budget -= cost
    return refused
