"""How often fresh layers are taken for trained ones, and trained layers for fresh ones.

    python initialised.py [LIBRARY ...]

Without a library: simulated layers, the networks of fixtures/train.py along their training, and the published networks
in fixtures/published and .published. LIBRARY is torch, timm or transformers: networks that it builds, as it initialises
them. Prints Markdown; the seeds are fixed.
"""

import contextlib
import importlib.util
import math
import re
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from unittest import mock

import torch
from torch import nn
from torch.nn import init

import weightstats
from weightstats.report import Report

ROOT = Path(__file__).resolve().parent.parent
STEPS = (0, 1, 3, 10, 30, 100, 300, 1000)
SIZES = (16, 32, 64, 128, 256, 512, 1024)
TIMES = 100
MOST_PARAMETERS = 30_000_000
PER_FAMILY = 2
"""Networks of timm whose names start with the same word."""

COLUMNS = ("as initialised", "hardly moved", "moved", "too small", "not judged")
INITIALISERS = {
    "torch's default": lambda weight: None,
    "Glorot uniform": init.xavier_uniform_,
    "Glorot normal": init.xavier_normal_,
    "He normal": init.kaiming_normal_,
    "normal 0.02": lambda weight: init.normal_(weight, std=0.02),
    "truncated normal 0.02": lambda weight: init.trunc_normal_(weight, 0.0, 0.02, -0.04, 0.04),
    "orthogonal": init.orthogonal_,
}


def counted(reports: Iterable[Report]) -> Counter[str]:
    """Layers by their state."""
    counts: Counter[str] = Counter()
    for report in reports:
        for row in report.layers:
            found = row.initialisation
            untold = "too small" if found.because.startswith("too small") else "not judged"
            counts[untold if found.state == "not told" else found.state] += 1
    return counts


def line(name: str, counts: Counter[str], networks: int | None = None) -> str:
    """One row of a table."""
    cells = [name] + ([] if networks is None else [f"{networks:,}"]) + [f"{counts.total():,}"]
    return f"| {' | '.join(cells + [f'{counts[column]:,}' for column in COLUMNS])} |"


def head(first: str, *, networks: bool = True) -> str:
    """The first two rows of a table."""
    titles = [first, *(["networks"] if networks else []), "layers", *COLUMNS]
    return f"| {' | '.join(titles)} |\n|---|{'--:|' * (len(titles) - 1)}"


def linear(weight: torch.Tensor) -> nn.Module:
    """A layer of this weight."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer


def fresh_layers(size: int) -> Iterator[Report]:
    """Single layers as torch draws them, each judged by itself."""
    for fill in INITIALISERS.values():
        for _ in range(TIMES):
            layer = nn.Linear(size, 2 * size, bias=False)
            fill(layer.weight)
            yield weightstats.inspect(layer)


def moved_layers(size: int, degrees: float) -> Iterator[Report]:
    """Single layers of a t distribution with any mean square: what a trained layer looks like at its least distinct.

    The mean square is log-normal about Glorot's, with a standard deviation of a factor of e².
    """
    draw = torch.distributions.StudentT(degrees) if math.isfinite(degrees) else torch.distributions.Normal(0.0, 1.0)
    for _ in range(TIMES * 5):
        weight = draw.sample((2 * size, size))
        scale = math.sqrt(2 / (3 * size)) * math.exp(float(torch.randn(())))
        yield weightstats.inspect(linear(weight * scale / weight.square().mean().sqrt()))


def along_training() -> Iterator[dict[int, Counter[str]]]:
    """States by step, for each of the networks of fixtures/train.py with three seeds."""
    train = _module(ROOT / "fixtures" / "train.py")
    images, _ = train.digits()
    for run in train.RUNS:
        found: dict[int, Counter[str]] = {step: Counter() for step in STEPS}
        for seed in (1, 2, 3):
            torch.manual_seed(seed)
            network = run.network()
            optimizer = train.optimizer_of(network, run.recipe)
            found[0] += counted([weightstats.inspect(network)])
            for step, batch in enumerate(_batches(len(images.classes)), 1):
                optimizer.zero_grad()
                nn.functional.cross_entropy(network(images.images[batch]), images.classes[batch]).backward()
                optimizer.step()
                if step in found:
                    found[step] += counted([weightstats.inspect(network)])
        yield found


def _batches(count: int) -> Iterator[torch.Tensor]:
    batches = math.ceil(count / 64)
    for _ in range(math.ceil(STEPS[-1] / batches)):
        yield from torch.randperm(count).split(64)


def _module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None  # noqa: S101 - a file that is there
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def published() -> Iterator[tuple[str, Report]]:
    """All networks in the folders of published ones, and those that were trained here, after their training."""
    folders = (ROOT / "fixtures" / "published", ROOT / ".published")
    files = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in (*files, *sorted((ROOT / "fixtures" / "trained").glob("*-final.*"))):
        with contextlib.suppress(weightstats.WeightstatsError):
            report = weightstats.inspect(path)
            if report.layers:
                yield str(path.relative_to(ROOT)), report


def built(library: str) -> Iterator[tuple[str, Report]]:
    """The library's networks as it initialises them."""
    from architectures import architectures

    seen: Counter[str] = Counter()
    for architecture in architectures(library):
        family = re.split(r"[_\d.]", architecture.name)[0]
        if library == "timm" and seen[family] >= PER_FAMILY:
            continue
        try:
            with torch.device("meta"):
                size = sum(parameter.numel() for parameter in architecture.build().parameters())
            if size > MOST_PARAMETERS:
                continue
            torch.manual_seed(0)
            with _initialising(library):
                report = weightstats.inspect(architecture.build())
        except Exception as error:  # whatever a library raises
            print(f"{architecture.name}: {type(error).__name__}", file=sys.stderr)
            continue
        seen[family] += 1
        yield architecture.name, report


def _initialising(library: str) -> contextlib.AbstractContextManager[object]:
    """transformers' networks are built without values by architectures_transformers.py; with them in here."""
    if library != "transformers":
        return contextlib.nullcontext()
    return mock.patch.object(sys.modules["transformers.initialization"], "no_init_weights", contextlib.nullcontext)


def print_library(library: str) -> None:
    """The table of one library, and on stderr what is taken for moved in it."""
    counts: Counter[str] = Counter()
    networks = 0
    for name, report in built(library):
        networks += 1
        counts += counted([report])
        for row in report.layers:
            if row.initialisation.state == "moved":
                print(f"{name} {row.name}: {row.initialisation.because}", file=sys.stderr)
    print(f"{head('fresh networks')}\n{line(library, counts, networks)}")


def print_simulated() -> None:
    """Single layers, fresh and moved."""
    torch.manual_seed(0)
    print(head("fresh layers, by themselves", networks=False))
    for size in SIZES:
        print(line(f"{size} → {2 * size}", counted(fresh_layers(size))))
    print(f"\n{head('moved layers, by themselves', networks=False)}")
    for degrees in (math.inf, 30.0, 10.0):
        for size in SIZES[:-1]:
            name = "normal" if math.isinf(degrees) else f"t of {degrees:g}"
            print(line(f"{name}, {size} → {2 * size}", counted(moved_layers(size, degrees))))


def print_training() -> None:
    """What is told at each step."""
    total: dict[int, Counter[str]] = {step: Counter() for step in STEPS}
    for found in along_training():
        for step, counts in found.items():
            total[step] += counts
    print(head("step", networks=False), *(line(str(step), counts) for step, counts in total.items()), sep="\n")


def print_published() -> None:
    """The files, and every layer that is taken for untrained."""
    reports = list(published())
    print(f"{head('trained networks')}\n{line('files', counted(report for _, report in reports), len(reports))}")
    for name, report in reports:
        for row in report.layers:
            if row.initialisation.is_untrained:
                print(f"- {name}: {row.name}: {row.initialisation.because}")


def main() -> None:
    """Print all tables, or those of libraries."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    for library in sys.argv[1:]:
        print_library(library)
    if not sys.argv[1:]:
        for table in (print_simulated, print_training, print_published):
            table()
            print()


if __name__ == "__main__":
    main()
