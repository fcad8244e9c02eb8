"""How often intervals hold what they promise and verdicts are wrong: checkpoints simulated with known laws.

    python benchmarks/calibration.py [--share 0.1] [--processes 2] [--document docs/calibration.md]

Draws the mean squares of the layers of known checkpoints (`simulated_networks.py`) as a law times exp(scatter)
(`scatter_kinds.py`), fits them as weightstats does, and writes what comes out to `docs/calibration.md`. `--share` is
the part of the simulations that is made. About seven minutes on two cores; nothing is drawn but from a seed.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

from calibration_cells import coverage_of, methods_of, pick_of, reached_of, verdicts_of
from calibration_document import document
from calibration_settings import (
    CONTEST,
    CONTEST_KINDS,
    CONTEST_SIZES,
    COVERAGE,
    METHOD,
    PICK,
    PICKS,
    RIVAL_VERDICT,
    TRUTHS,
    VERDICT,
    VERDICT_SIZES,
    Cell,
    Results,
    judged,
    kinds_of,
    make_results,
    part,
    rated,
)
from many_verdicts import FREE_LAWS
from simulated_networks import CHECKPOINTS

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/calibration.md"

ONE_THREAD = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
"""Variables that keep the libraries below numpy to one thread: each process has a core to itself."""

Job = tuple[Callable[..., Cell], tuple[object, ...]]
"""What works a cell out, and its arguments."""


def jobs(share: float) -> list[Job]:
    """All cells."""
    made: list[Job] = []
    for name in CHECKPOINTS:
        for kind in kinds_of(name):
            made.append((coverage_of, (name, kind, part(COVERAGE, share))))
            if not judged(name):
                continue
            made.append((methods_of, (name, kind, part(METHOD, share))))
            for truth in TRUTHS:
                many = part(RIVAL_VERDICT if truth.exponent is None else VERDICT, share)
                made += [(verdicts_of, (name, kind, truth.key, size, many)) for size in VERDICT_SIZES]
            if kind in CONTEST_KINDS and rated(name):
                cells = [(size, law.key) for size in CONTEST_SIZES for law in FREE_LAWS]
                made += [(reached_of, (name, kind, *cell, part(CONTEST, share))) for cell in cells]
    return made + [(pick_of, (name, size, part(PICK, share))) for name in PICKS for size in CONTEST_SIZES]


def run(share: float, processes: int, say: Callable[[str], None]) -> Results:
    """Work out all cells."""
    os.environ.update(dict.fromkeys(ONE_THREAD, "1"))
    todo = jobs(share)
    found: dict[int, Cell] = {}
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        places = {pool.submit(function, *arguments): place for place, (function, arguments) in enumerate(todo)}
        for future in as_completed(places):
            found[places[future]] = future.result()
            if len(found) % 50 == 0 or len(found) == len(todo):
                say(f"{len(found)} of {len(todo)} cells")
    return make_results(share, [found[place] for place in range(len(todo))])


def main(arguments: Sequence[str] | None = None) -> None:
    """Simulate, and write the document."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1.0, help="of the simulations")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    chosen = parser.parse_args(arguments)
    results = run(chosen.share, chosen.processes, lambda line: print(line, flush=True))
    chosen.document.write_text(document(results), encoding="utf-8")
    print(chosen.document)


if __name__ == "__main__":
    main()
