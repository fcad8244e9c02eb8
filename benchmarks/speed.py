"""How fast weightstats is, beside `cat`, the usual ten lines and its peers, and how much memory it needs.

    python benchmarks/speed.py [--size GB] [--folder DIR] [--peers BIN_DIR] [--repeats N] [--markdown FILE]

Each file is read into the page cache right before every timed command, and the commands take turns. For Linux.
"""

import argparse
import multiprocessing
import os
import platform
import statistics
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.metadata import distributions, version
from pathlib import Path

from checkpoints import TORCH_DTYPES, make, wanted
from runs import Command, Timing, interleaved, peak_of_tree, run

BARS = {"F32": 2.0, "BF16": 3.0, "F16": 3.0}
"""Times of `cat` that reading a file may take, start-up left out."""

WIDTH, TINY_WIDTH, TINY_SIZE = 1024, 64, 1_000_000

COLD_ROUNDS = 3

DROP_CACHES = Path("/proc/sys/vm/drop_caches")

WEIGHTWATCHER = """
import sys, torch, weightwatcher
state = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
print(weightwatcher.WeightWatcher(model=state).analyze())
"""

WEIGHTSTATS = str(Path(sysconfig.get_path("scripts")) / "weightstats")


@dataclass(frozen=True, slots=True)
class Measured:
    """One file, and what reading it took, by the name of the command."""

    dtype: str
    format: str
    size: int
    timings: Mapping[str, Timing]
    tree_peak: int

    @property
    def times_cat(self) -> float:
        """weightstats without its start-up, in times of cat."""
        own = self.timings["weightstats"].median - self.timings["start-up"].median
        return own / self.timings["cat"].median

    def times_faster(self, other: str) -> float:
        """The whole command's time, start-up included, under that of another."""
        return self.timings[other].median / self.timings["weightstats"].median


def main() -> None:
    """Measure, print the tables, and write them where asked to."""
    options = _options()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        text = "\n".join(_sections(options, folder))
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="How fast weightstats is, and how much memory it needs.")
    parser.add_argument("--size", type=float, default=1.0, metavar="GB", help="size of each file (1)")
    parser.add_argument("--folder", type=Path, help="where the files are kept (a temporary folder)")
    parser.add_argument("--peers", type=Path, metavar="BIN_DIR", help="bin folder with weightlens, WeightWatcher")
    parser.add_argument("--repeats", type=int, default=5, metavar="N", help="runs of each command (5)")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where the tables are written")
    return parser.parse_args()


def _sections(options: argparse.Namespace, folder: Path) -> list[str]:
    """The report's parts, each printed as soon as it is there."""
    parts: list[str] = []

    def add(text: str) -> None:
        print(text, flush=True)
        parts.append(text)

    networks = {dtype: wanted(folder, dtype.lower(), dtype, round(options.size * 1e9), WIDTH) for dtype in TORCH_DTYPES}
    tiny = wanted(folder, "tiny", "F32", TINY_SIZE, TINY_WIDTH)
    _in_other_process(make, (tiny, *networks.values()))
    environment = _environment(folder)
    peers = _peers(options.peers, tiny.paths["torch zip"], environment)

    add(f"{_machine(options.peers)}\n")
    add(_start_up(tiny.paths["safetensors"], options.repeats, environment))
    measured = []
    for dtype, network in networks.items():
        for form, path in network.paths.items():
            own_peers = [peer for peer in peers if _is_wanted(peer, dtype, form)]
            measured.append(_measured(dtype, form, path, tiny.paths["safetensors"], own_peers, options, environment))
            print(f"measured: {dtype} {form}", file=sys.stderr)
    add(_warm(measured))
    add(_memory(measured))
    add(_cold(networks["F32"].paths["safetensors"], tiny.paths["safetensors"], environment))
    return parts


def _in_other_process(function: object, *arguments: object) -> None:
    """So that this one stays small: a command that it starts is never smaller, in the kernel's books."""
    process = multiprocessing.get_context("spawn").Process(target=function, args=arguments)  # type: ignore[arg-type]
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit("the files could not be made")


def _environment(folder: Path) -> dict[str, str]:
    """Ours, but modules are compiled once, as in any installation."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": str((folder / "bytecode").absolute())}


def _peers(folder: Path | None, tiny: Path, environment: Mapping[str, str]) -> list[Command]:
    """The peers that are there and work, without the file that they are to read; each runs once, they are slow."""
    if folder is None:
        return []
    found = []
    for peer in (
        Command("weightlens", (str(folder / "lens"), "analyze"), most_runs=1),
        Command("WeightWatcher", (str(folder / "python"), "-c", WEIGHTWATCHER), most_runs=1),
    ):
        try:
            run(_reading(peer, tiny), environment)  # also compiles its modules
        except (OSError, RuntimeError) as error:
            print(f"left out: {peer.name}: {error}", file=sys.stderr)
        else:
            found.append(peer)
    return found


def _is_wanted(peer: Command, dtype: str, form: str) -> bool:
    """WeightWatcher takes a minute for one file; weightlens is no faster or slower in one format than in the other."""
    return (dtype, form) == ("F32", "torch zip") or (peer.name == "weightlens" and form == "safetensors")


def _reading(command: Command, path: Path) -> Command:
    return Command(command.name, (*command.arguments, str(path)), command.most_runs)


def _inspect(path: Path, name: str = "weightstats") -> Command:
    return Command(name, (WEIGHTSTATS, "inspect", str(path), "--format", "json"))


def _script(path: Path) -> Command:
    return Command("script", (sys.executable, str(Path(__file__).with_name("ten_lines.py")), str(path)), most_runs=3)


def _measured(
    dtype: str,
    form: str,
    path: Path,
    tiny: Path,
    peers: list[Command],
    options: argparse.Namespace,
    environment: Mapping[str, str],
) -> Measured:
    commands = [
        Command("cat", ("cat", str(path))),
        _inspect(path),
        _inspect(tiny, name="start-up"),
        _script(path),
        *(_reading(peer, path) for peer in peers),
    ]
    for command in (_inspect(tiny), _script(tiny)):
        run(command, environment)  # reads and compiles the modules
    timings = interleaved(commands, options.repeats, environment, before=partial(_warm_up, path))
    _warm_up(path)
    return Measured(dtype, form, path.stat().st_size, timings, peak_of_tree(_inspect(path), environment))


def _warm_up(path: Path) -> None:
    """Read the file, so that it lies in the page cache."""
    buffer = bytearray(1 << 20)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def _machine(peers: Path | None) -> str:
    """Processor, cores and versions, in one line."""
    models = [line.split(":")[1].strip() for line in _lines(Path("/proc/cpuinfo")) if line.startswith("model name")]
    packages = [f"{name} {version(name)}" for name in ("weightstats", "numpy", "torch", "safetensors")]
    if peers is not None:
        places = [str(place) for place in peers.parent.glob("lib/python*/site-packages")]
        found = [one for name in ("weightlens", "weightwatcher") for one in distributions(name=name, path=places)]
        packages += [f"{one.name} {one.version}" for one in found]
    processor = f"{models[0] if models else platform.machine()}, {len(os.sched_getaffinity(0))} cores"
    return "; ".join((processor, f"Python {platform.python_version()}", *packages))


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _start_up(tiny: Path, repeats: int, environment: Mapping[str, str]) -> str:
    commands = [
        Command("`weightstats --help`", (WEIGHTSTATS, "--help")),
        Command(f"`weightstats inspect`, {tiny.stat().st_size / 1e6:.1f} MB", (WEIGHTSTATS, "inspect", str(tiny))),
        _inspect(tiny, name="the same, `--format json`"),
    ]
    bars = {commands[0].name: "0.25", commands[1].name: "0.5", commands[2].name: ""}
    for command in commands:
        run(command, environment)
    timings = interleaved(commands, repeats, environment, before=partial(_warm_up, tiny))
    rows = [
        [name, f"{timing.median:.3f}", f"{timing.shortest:.3f}", bars[name], _megabytes(timing.peak)]
        for name, timing in timings.items()
    ]
    return _table("Start-up", ["command", "median s", "min s", "bar s", "peak MB"], rows)


def _warm(measured: list[Measured]) -> str:
    others = _others(measured)
    headings = ["file", "bytes", "cat s", "weightstats s", "min s", "start-up s", "(weightstats - start-up)/cat", "bar"]
    headings += [heading for name in others for heading in (f"{name} s", "times faster")]
    rows = []
    for one in measured:
        own, start, cat = (one.timings[name] for name in ("weightstats", "start-up", "cat"))
        row = [f"{one.dtype} {one.format}", f"{one.size:,}", f"{cat.median:.3f}"]
        row += [f"{own.median:.3f}", f"{own.shortest:.3f}", f"{start.median:.3f}"]
        row += [f"{one.times_cat:.2f}", f"{BARS[one.dtype]:.0f}"]
        for name in others:
            timing = one.timings.get(name)
            row += [f"{timing.median:.2f}", f"{one.times_faster(name):.1f}"] if timing else ["", ""]
        rows.append(row)
    return _table("Files in the page cache", headings, rows) + _disturbed(measured)


def _others(measured: list[Measured]) -> list[str]:
    """What weightstats is compared with in any of the files."""
    names = ("script", "weightlens", "WeightWatcher")
    return [name for name in names if any(name in one.timings for one in measured)]


def _disturbed(measured: list[Measured]) -> str:
    names = [
        f"{name} on {one.dtype} {one.format} ({timing.disturbed} of {timing.runs})"
        for one in measured
        for name, timing in one.timings.items()
        if timing.disturbed
    ]
    return f"Other work was running beside: {', '.join(names)}.\n" if names else ""


def _memory(measured: list[Measured]) -> str:
    others = _others(measured)
    rows = []
    for one in measured:
        peaks = {name: _megabytes(timing.peak) for name, timing in one.timings.items()}
        row = [f"{one.dtype} {one.format}", peaks["weightstats"], _megabytes(one.tree_peak), "200"]
        rows.append(row + [peaks.get(name, "") for name in others])
    headings = ["file", "weightstats, largest process MB", "weightstats, all processes MB", "bar MB"]
    return _table("Peak memory", headings + [f"{name} MB" for name in others], rows)


def _cold(path: Path, tiny: Path, environment: Mapping[str, str]) -> str:
    """The file read from the disk, by dd past the page cache and by weightstats."""
    title = "Files not in the page cache"
    if not os.access(DROP_CACHES, os.W_OK):
        return f"## {title}\n\nSkipped: only root may write {DROP_CACHES}.\n"
    disk = Command("dd", ("dd", f"if={path}", "of=/dev/null", "bs=4M", "iflag=direct"))
    rows, ratios = [], []
    for number in range(1, COLD_ROUNDS + 1):
        _drop_caches()
        plain = run(disk, environment).seconds
        _drop_caches()
        start_up = [run(_inspect(tiny), environment).seconds for _ in range(2)][-1]  # the first reads the modules
        own = run(_inspect(path), environment).seconds
        ratios.append(plain / (own - start_up))
        speed = path.stat().st_size / plain / 1e6
        rows.append([str(number), *(f"{s:.3f}" for s in (plain, own, start_up)), f"{speed:,.0f}", f"{ratios[-1]:.2f}"])
    rows.append(["median", "", "", "", "", f"{statistics.median(ratios):.2f}"])
    headings = ["round", "dd s", "weightstats s", "start-up s", "dd MB/s", "throughput, times dd's (bar 0.9)"]
    return _table(f"{title}: F32 safetensors", headings, rows)


def _drop_caches() -> None:
    os.sync()
    DROP_CACHES.write_text("1", encoding="ascii")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.0f}"


def _table(title: str, headings: list[str], rows: list[list[str]]) -> str:
    """A Markdown table; the first column is text, the others are numbers."""
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join([f"## {title}", "", *(_row(cells, widths) for cells in (headings, rule, *rows)), ""])


def _row(cells: list[str], widths: list[int]) -> str:
    numbers = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return f"| {' | '.join([cells[0].ljust(widths[0]), *numbers])} |"


if __name__ == "__main__":
    main()
