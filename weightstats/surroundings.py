"""What lies around a tensor in its network: modules of the same parent, the channels that they give out, the input."""

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

from weightstats.layer_names import (
    BUFFERS,
    GROUPED,
    INPUT_MODULE,
    MODULE_WEIGHT,
    ONE_CHANNEL,
    ROUTER_MODULE,
    SQUEEZE,
    TOKENS_MODULE,
)
from weightstats.network import Network
from weightstats.order import natural_key

Shape: TypeAlias = tuple[int, ...]

MOST_INPUT_CHANNELS = 4
"""Channels of pictures; a convolution of fewer inputs that nothing gives out may be the network's first."""

MOST_LEVELS = 2
"""Components of a path, from its end, among which a numbered neighbour is looked for."""

MOST_TYPE = 100
"""Characters of a model's type in a configuration."""

MOST_BESIDE = 256
"""Units of one parent that are looked at one by one."""

MOST_STEPS = 64
"""Links of a chain that are looked at for one of the right number of dimensions."""

_NUMBERED = re.compile(r"(\D*?)(\d+)(.*)")
_STAGE = re.compile(r"[^.\d]+\.\d{1,9}(?=\.)")
_DIGITS = re.compile(r"\d+")
_TABLES = ("embedding", "embeddings", "embed", "emb", "encoder_embed")
_BUFFER = re.compile("|".join(f"(?:{pattern})" for pattern, _ in BUFFERS))


@dataclass(frozen=True, slots=True)
class Unit:
    """A module's weight, or a parameter of two dimensions or more that is its own."""

    path: str
    """The module's path, or the parameter's name."""

    name: str
    shape: Shape


class Surroundings:
    """The shapes of a network's tensors, by name and by place. All names are those that tell (`Named.known_as`)."""

    def __init__(self, network: Network) -> None:
        self.config = network.config
        self.shapes: dict[str, Shape] = {named.telling: named.tensor.shape for named in network.tensors}
        self.shapes |= {named.telling: named.tensor.shape for named in network.tensors if named.known_as}
        self.orientations: dict[object, tuple[str, str]] = {}
        self._routers: dict[str, Unit | None] = {}
        self._sorted_widths: dict[str, tuple[int, ...]] = {}
        self._found: dict[tuple[str, re.Pattern[str]], tuple[Unit, ...]] = {}
        self.integers = {
            named.telling for named in network.tensors if named.tensor.dtype.kind in ("integer", "bool")
        } - {named.telling for named in network.tensors if named.known_as}

    @cached_property
    def units(self) -> dict[str, Unit]:
        """Every weight of two dimensions or more, by its path."""
        found: dict[str, Unit] = {}
        for name, shape in self.shapes.items():
            if len(shape) >= 2 and name not in self.integers and not _BUFFER.search(name):
                path = path_of(name)
                found.setdefault(path, Unit(path, name, shape))
        return found

    @cached_property
    def _beneath(self) -> dict[str, list[Unit]]:
        """The units whose parent or grandparent a path is."""
        found: dict[str, list[Unit]] = {}
        for unit in self.units.values():
            parent = unit.path.rpartition(".")[0]
            found.setdefault(parent, []).append(unit)
            if parent:
                found.setdefault(parent.rpartition(".")[0], []).append(unit)
        return found

    def beside(self, path: str) -> Iterator[Unit]:
        """Other units under the same parent, those one level further down among them; no more than MOST_BESIDE."""
        parent = path.rpartition(".")[0]
        return (unit for unit in self._beneath.get(parent, ())[:MOST_BESIDE] if unit.path != path)

    def sibling(self, path: str, names: re.Pattern[str]) -> Unit | None:
        """The first unit beside `path` whose path below the common parent matches as a whole."""
        parent = path.rpartition(".")[0]
        found = self._found.get((parent, names))
        if found is None:
            beneath = self._beneath.get(parent, ())
            matching = (unit for unit in beneath if names.fullmatch(unit.path[len(parent) :].lstrip(".")))
            found = self._found[parent, names] = tuple(itertools.islice(matching, 2))
        return next((unit for unit in found if unit.path != path), None)

    def size_of(self, name: str, axis: int = -1) -> int:
        """A size of the tensor of that name; 0 where there is none, or it has no dimensions."""
        shape = self.shapes.get(name, ())
        return shape[axis] if shape else 0

    @cached_property
    def model_type(self) -> str:
        """What the configuration calls the model; '' where that is no short text."""
        value = self.model_config.get("model_type")
        return value if isinstance(value, str) and len(value) <= MOST_TYPE else ""

    @cached_property
    def model_config(self) -> Mapping[str, Any]:
        """The configuration of the model, or of its text model where the model has several."""
        config = self.config.get("config.json", {})
        if not isinstance(config, Mapping):
            return {}
        text = config.get("text_config")
        return {**text, **config} if isinstance(text, Mapping) else config

    def setting(self, *keys: str) -> int | None:
        """The first of these keys of the configuration that is a number from 1 on."""
        for key in keys:
            value = self.model_config.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
        return None

    def bias_of(self, path: str) -> Shape | None:
        """The shape of a unit's bias."""
        return self.shapes.get(f"{path}.bias", self.shapes.get(f"{path}_bias"))

    def length_of(self, name: str) -> int | None:
        """The size of a vector, None where there is none of the name."""
        shape = self.shapes.get(name)
        return shape[0] if shape is not None and len(shape) == 1 else None

    @cached_property
    def _widths(self) -> dict[str, dict[int, int]]:
        """How many units beneath a path give out so many channels; '' counts all of the network."""
        found: dict[str, dict[int, int]] = {"": {}}
        for unit in self.units.values():
            if SQUEEZE.search(unit.path):
                continue
            width = unit.shape[0]
            parent = unit.path.rpartition(".")[0]
            for place in {parent, parent.rpartition(".")[0], _stage(unit.path), ""}:
                counts = found.setdefault(place, {})
                counts[width] = counts.get(width, 0) + 1
        return found

    def gives_out(self, place: str, channels: int, *, besides: Unit) -> bool:
        """Whether a unit beneath `place`, other than `besides`, gives out so many channels."""
        count = self._widths.get(place, {}).get(channels, 0)
        return count > (1 if besides.shape[0] == channels and not SQUEEZE.search(besides.path) else 0)

    @cached_property
    def _chains(self) -> dict[tuple[str, str], list[tuple[int, Unit]]]:
        """Modules of one parent that are numbered: (parent, what stands before the number), sorted by number."""
        found: dict[tuple[str, str], list[tuple[int, Unit]]] = {}
        for unit in self.units.values():
            for parent, component in _places(unit.path):
                match = _NUMBERED.match(component)
                if match is not None and len(match[2]) < 10:
                    found.setdefault((parent, match[1]), []).append((int(match[2]), unit))
        for chain in found.values():
            chain.sort(key=lambda link: (link[0], natural_key(link[1].path)))
        return found

    @cached_property
    def _chain_places(self) -> dict[tuple[str, str], dict[str, int]]:
        """Where in its chain each unit is, by its path."""
        return {key: {unit.path: index for index, (_, unit) in enumerate(chain)} for key, chain in self._chains.items()}

    def neighbour(self, unit: Unit, step: int, dimensions: int | None = None) -> Unit | None:
        """The unit before (step -1) or after (1) in a numbered chain of one parent, such as `conv1` before `conv2` or
        `0.conv` before `1.conv`; of so many dimensions, if that is given."""
        for parent, component in _places(unit.path):
            match = _NUMBERED.match(component)
            if match is None or len(match[2]) >= 10:
                continue
            chain = self._chains.get((parent, match[1]), [])
            place = self._chain_places.get((parent, match[1]), {}).get(unit.path)
            if place is None:
                continue
            for _ in range(MOST_STEPS):
                place += step
                if not 0 <= place < len(chain):
                    break
                link = chain[place][1]
                if dimensions is not None and len(link.shape) != dimensions:
                    continue
                is_own = parent == unit.path.rpartition(".")[0]
                return link if is_own or _component(link.path, parent) != component else None
        return None

    def follows_directly(self, unit: Unit, before: Unit) -> bool:
        """Whether its number is one more than that of another unit, as `conv2` after `conv1`."""
        for (parent, component), (other_parent, other) in zip(_places(unit.path), _places(before.path), strict=False):
            one, two = _NUMBERED.match(component), _NUMBERED.match(other)
            if parent == other_parent and one is not None and two is not None:
                return one[1] == two[1] and int(one[2][:9]) == int(two[2][:9]) + 1
        return False

    def is_in_wide_chain(self, unit: Unit) -> bool:
        """Whether a unit that is numbered like this one under the same parent, and has as many dimensions, takes more
        than one channel."""
        for parent, component in _places(unit.path):
            match = _NUMBERED.match(component)
            if match is not None and len(match[2]) < 10:
                return (parent, match[1], len(unit.shape)) in self._wide_chains
        return False

    @cached_property
    def _wide_chains(self) -> frozenset[tuple[str, str, int]]:
        """Chains with a unit that takes more than one channel, each with that unit's number of dimensions."""
        return frozenset(
            (*key, len(unit.shape)) for key, chain in self._chains.items() for _, unit in chain if unit.shape[1] > 1
        )

    def is_named_input(self, unit: Unit) -> bool:
        """Whether its name is that of a layer that takes a network's input."""
        return any(INPUT_MODULE.search(component) for component in unit.path.split(".")[-3:])

    def halved_before(self, unit: Unit) -> bool:
        """Whether the stage before the unit's gives out half as many channels as the unit, and not as many."""
        stem, _, number = _stage(unit.path).rpartition(".")
        if not number.isdecimal() or int(number[:9]) == 0:
            return False
        before = self._widths.get(f"{stem}.{int(number[:9]) - 1}", {})
        return unit.shape[0] % 2 == 0 and unit.shape[0] // 2 in before and unit.shape[0] not in before

    def widths(self, place: str) -> tuple[int, ...]:
        """The numbers of channels that units beneath a path give out, smallest first."""
        if place not in self._sorted_widths:
            self._sorted_widths[place] = tuple(sorted(self._widths.get(place, {})))[:MOST_BESIDE]
        return self._sorted_widths[place]

    @cached_property
    def _templates(self) -> Counter[tuple[str, Shape]]:
        """How many units differ only in the numbers of their paths, with one shape, or with one but for the outputs."""
        units = self.units.values()
        whole = Counter((_DIGITS.sub("#", unit.path), unit.shape) for unit in units)
        return whole + Counter((_DIGITS.sub("#", unit.path), (-1, *unit.shape[1:])) for unit in units)

    def is_repeated(self, unit: Unit, *, whatever_outputs: bool = False) -> bool:
        """Whether another unit of the same shape differs only in the numbers of its path."""
        shape = (-1, *unit.shape[1:]) if whatever_outputs else unit.shape
        return self._templates[_DIGITS.sub("#", unit.path), shape] > 1

    @cached_property
    def calls_weights_so(self) -> bool:
        """Whether most weights of the network are called `weight`, as those of torch's modules are."""
        called = sum(unit.name.endswith("weight") for unit in self.units.values())
        return 2 * called > len(self.units)

    def takes(self, place: str, channels: int, *, besides: Unit) -> bool:
        """Whether a kernel of one position beneath a path, other than `besides`, takes so many channels."""
        return any(path != besides.path for path in self._narrow.get((place, channels), ()))

    @cached_property
    def _narrow(self) -> dict[tuple[str, int], list[str]]:
        """Kernels of one position by the channels that they take, two at most beneath each path."""
        found: dict[tuple[str, int], list[str]] = {}
        for unit in self.units.values():
            if len(unit.shape) > 2 and field_of(unit.shape) == 1 < unit.shape[1] and not SQUEEZE.search(unit.path):
                parent = unit.path.rpartition(".")[0]
                for place in {parent, parent.rpartition(".")[0]}:
                    paths = found.setdefault((place, unit.shape[1]), [])
                    if len(paths) < 2:
                        paths.append(unit.path)
        return found

    @cached_property
    def has_token_table(self) -> bool:
        """Whether the network's input is a number that is looked up in a table."""
        return any(
            len(unit.shape) == 2
            and (TOKENS_MODULE.search(module := unit.path.rpartition(".")[2]) is not None or module in _TABLES)
            and self.bias_of(unit.path) is None
            for unit in self.units.values()
        )

    def takes_pictures(self, dimensions: int) -> bool:
        """Whether a kernel of so many dimensions takes two to four channels that nothing in the network gives out."""
        return dimensions in self._pictures

    @cached_property
    def _pictures(self) -> frozenset[int]:
        return frozenset(
            len(unit.shape)
            for unit in self.units.values()
            if len(unit.shape) >= 3
            and 1 < unit.shape[1] <= MOST_INPUT_CHANNELS
            and not GROUPED.search(unit.path)
            and self._is_first_in_chain(unit)
            and not self.gives_out("", unit.shape[1], besides=unit)
        )

    def _is_first_in_chain(self, unit: Unit) -> bool:
        before = self.neighbour(unit, -1, len(unit.shape))
        return before is None or not self.follows_directly(unit, before)

    def takes_sound(self, unit: Unit) -> bool:
        """Whether the unit lies in a part of the network that is named after sound, or another input of one channel."""
        return any(ONE_CHANNEL.search(component) for component in unit.path.split(".")[:-1])

    def expert_count(self, path: str) -> int | None:
        """How many experts a router beside the unit, or beside its parent, chooses from."""
        router = self._router(path)
        return None if router is None else min(router.shape)

    def router_width(self, path: str) -> int | None:
        """The channels that a router beside the unit, or beside its parent, takes."""
        router = self._router(path)
        return None if router is None else max(router.shape)

    def _router(self, path: str) -> Unit | None:
        for place in (path, path.rpartition(".")[0]):
            if place:
                parent = place.rpartition(".")[0]
                if parent not in self._routers:
                    self._routers[parent] = next(filter(_is_router, self._beneath.get(parent, ())), None)
                router = self._routers[parent]
                if router is not None and router.path != path:
                    return router
        return None

    def normalised_after(self, unit: Unit) -> int | None:
        """The channels of a normalisation that is numbered one after the unit under the same parent."""
        parent, _, component = unit.path.rpartition(".")
        match = _NUMBERED.fullmatch(component)
        if match is None or len(match[2]) >= 10 or match[3]:
            return None
        after = f"{match[1]}{int(match[2]) + 1}.weight"
        return self.length_of(f"{parent}.{after}" if parent else after)

    def first_of_its_kind(self, unit: Unit) -> bool:
        """Whether it may be the network's first layer by its name, or by being the first of its network."""
        if self.is_named_input(unit):
            return True
        return not self.is_repeated(unit) and self._first_kernels.get(len(unit.shape)) == unit.path

    @cached_property
    def _first_kernels(self) -> dict[int, str]:
        """The path of the first unit of each number of dimensions."""
        found: dict[int, str] = {}
        for unit in self.units.values():
            found.setdefault(len(unit.shape), unit.path)
        return found


def _is_router(unit: Unit) -> bool:
    return len(unit.shape) == 2 and any(map(ROUTER_MODULE.fullmatch, unit.path.split(".")[-2:]))


def path_of(name: str) -> str:
    """The module of a weight, or the name of a parameter that is called something else."""
    return MODULE_WEIGHT.sub("", name) or name


def _places(path: str) -> Iterator[tuple[str, str]]:
    """(parent, component) for the last MOST_LEVELS components of a path, the last one first."""
    for _ in range(MOST_LEVELS):
        parent, _, component = path.rpartition(".")
        yield parent, component
        if not parent:
            return
        path = parent


def _stage(path: str) -> str:
    """A path up to its first number: the stage of a network, `stages.1` or `layers.3`."""
    match = _STAGE.match(path)
    return match[0] if match is not None else ""


def _component(path: str, parent: str) -> str:
    """The first component of a path below its parent."""
    return path[len(parent) :].lstrip(".").partition(".")[0]


def field_of(shape: Shape) -> int:
    """Positions of the receptive field of a kernel with its channels first."""
    return math.prod(shape[2:])
