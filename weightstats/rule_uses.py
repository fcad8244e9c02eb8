"""What a rule says that a tensor is for: the dimensions of the shape that it must fit, and the parts that it cuts."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from weightstats.errors import UsageError, quoted, shortened
from weightstats.rules import Rule, Split
from weightstats.tensors import Part, Slice, Tensor, Use

IN_FIRST = ("embedding",)
"""Kinds of layer that hold their inputs in the first dimension, unless a rule says otherwise."""

_CONVOLUTION = re.compile(r"conv(_transpose)?(?P<positions>[123])d$")


@dataclass(frozen=True, slots=True)
class Found:
    """What a layer was taken for without the rule."""

    kind: str
    n_in: int
    n_out: int


def use_by_rule(rule: Rule, name: str, tensor: Tensor, found: Found | None) -> Use | None:
    """What a rule says that a tensor is for, with dimensions and parts; None where it leaves them as they were found.
    The tensor is one map unless the rule says `split`.

    `found` is what the layer was taken for, None for a tensor that was taken for something else. The rule's own n_in
    and n_out are left to the caller: they hold for each part. UsageError where the rule does not fit the tensor.
    """
    kind = rule.kind or (found.kind if found is not None else "linear")
    if tensor.dtype.kind not in ("float", "complex"):
        raise _misfit(rule, name, f"is stored as {tensor.dtype.name}, and only floating-point numbers can be a layer")
    changed = found is None or kind != found.kind
    if not changed and rule.groups is None and rule.transposed is None and rule.split is None:
        return None
    use = tensor.use if tensor.use is not None and len(tensor.use.axes) == len(tensor.shape) else None
    axes = _axes(rule, kind, name, tensor.shape, found, use)
    axis = _split_axis(rule, name, tensor.shape, axes) if rule.split else 0
    if rule.split and len(tensor.shape) == 2 and rule.axis is not None and rule.transposed is None:
        axes = "OI" if axis == 0 else "IO"
    if not axes and rule.n_in is not None and rule.n_out is not None:
        axes = "".join("O" if index == axis else "I" for index in range(len(tensor.shape)))
    if not axes:
        text = (
            f"has the shape {_shape(tensor.shape)}, from which the fans of {quoted(kind)} do not follow: the rule must"
        )
        raise _misfit(rule, name, f"{text} give n_in and n_out")
    if rule.split and axes[axis] not in "OB":
        what = "inputs" if axes[axis] == "I" else "positions"
        raise _misfit(rule, name, f"has its {what} in dimension {axis}, and split cuts the outputs")
    parts = _parts(rule, rule.split, name, axis, tensor.shape) if rule.split else ()
    groups = _groups(rule, kind, tensor.shape, axes, None if changed else found)
    _check_groups(rule, name, kind, groups, tensor.shape, axes, parts)
    return Use(kind, axes, rule.because, groups, "rule", parts)


def _axes(rule: Rule, kind: str, name: str, shape: tuple[int, ...], found: Found | None, use: Use | None) -> str:
    """What each dimension counts: as it was found, else as torch has it, and the other way round in what Keras and JAX
    call a kernel; '' where the kind says nothing of so many dimensions."""
    if use is not None and rule.transposed is None and _family(use.kind) == _family(kind):
        return use.axes
    kernel = name.endswith("kernel")
    convolution = _CONVOLUTION.search(kind)
    if convolution is not None:
        positions = int(convolution["positions"])
        in_first = ("transpose" in kind) != kernel if rule.transposed is None else rule.transposed
        pair = "IO" if in_first else "OI"
        axes = "K" * positions + pair if kernel else pair + "K" * positions
        return axes if len(axes) == len(shape) else ""
    if kind == "bilinear":
        return ("IIO" if rule.transposed else "OII") if len(shape) == 3 else ""
    if len(shape) not in (2, 3):
        return ""
    in_first = kernel or kind in IN_FIRST
    if found is not None and _family(found.kind) == _family(kind) and found.n_in != found.n_out:
        in_first = shape[-2:] == (found.n_in, found.n_out)
    if rule.transposed is not None:
        in_first = rule.transposed
    return "B" * (len(shape) - 2) + ("IO" if in_first else "OI")


def _family(kind: str) -> tuple[object, ...]:
    """What two kinds share whose weights have the same dimensions in the same order."""
    convolution = _CONVOLUTION.search(kind)
    positions = convolution["positions"] if convolution is not None else ""
    return positions, "transpose" in kind, kind == "bilinear", kind in IN_FIRST


def _split_axis(rule: Rule, name: str, shape: tuple[int, ...], axes: str) -> int:
    axis = rule.axis if rule.axis is not None else max(axes.find("O"), 0)
    if axis >= len(shape):
        raise _misfit(rule, name, f"has the shape {_shape(shape)}, and no dimension {axis}")
    return axis


def _parts(rule: Rule, split: Split, name: str, axis: int, shape: tuple[int, ...]) -> tuple[Part, ...]:
    whole = shape[axis]
    sizes = [size for _, size in split if size is not None]
    if sizes and sum(sizes) != whole:
        added = f"the sizes in split add up to {sum(sizes):,}"
        raise _misfit(rule, name, f"has {whole:,} in dimension {axis}, and {added}")
    if split and not sizes and whole % len(split):
        raise _misfit(rule, name, f"has {whole:,} in dimension {axis}, which are not {len(split):,} equal parts")
    parts = []
    start = 0
    for part, given in split:
        size = given if given is not None else whole // len(split)
        parts.append(Part(part, (Slice(axis, start, size, whole),)))
        start += size
    return tuple(parts)


def _count(letters: str, shape: tuple[int, ...], axes: str) -> int:
    return math.prod(size for letter, size in zip(axes, shape, strict=True) if letter in letters)


def _groups(rule: Rule, kind: str, shape: tuple[int, ...], axes: str, found: Found | None) -> int:
    """As the rule says, else as they were found; without either, a depthwise convolution has one for each channel."""
    if rule.groups is not None:
        return rule.groups
    turned = "transpose" in kind
    all_connected = _count("IK" if turned else "OK", shape, axes)
    if found is not None:
        fan = found.n_in if turned else found.n_out
        return all_connected // fan if fan > 0 and all_connected % fan == 0 else 1
    if kind.startswith("depthwise") and _count("I", shape, axes) == 1:
        return _count("O", shape, axes)
    return 1


def _check_groups(
    rule: Rule, name: str, kind: str, groups: int, shape: tuple[int, ...], axes: str, parts: tuple[Part, ...]
) -> None:
    """Misfit where the channels, of each part, do not make so many groups."""
    turned = "transpose" in kind
    cut: Iterable[tuple[int, ...]] = [shape]
    if parts and not turned:
        cut = [_cut_shape(shape, part) for part in parts]
    for sizes in cut:
        channels = _count("I" if turned else "O", sizes, axes)
        if channels % groups:
            what = "inputs" if turned else "outputs"
            raise _misfit(rule, name, f"has {channels:,} {what}, which are not {groups:,} groups")


def _cut_shape(shape: tuple[int, ...], part: Part) -> tuple[int, ...]:
    sizes = list(shape)
    for cut in part.slices:
        sizes[cut.axis] = shape[cut.axis] // cut.period * cut.size
    return tuple(sizes)


def _misfit(rule: Rule, name: str, problem: str) -> UsageError:
    return UsageError(f"{rule.because}: the tensor {shortened(name)} {problem}")


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape)) or "of a scalar"
