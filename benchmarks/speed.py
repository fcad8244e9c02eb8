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
from dataclasses import dataclass, replace
from importlib.metadata import distributions, version
from pathlib import Path

from checkpoints import TORCH_DTYPES, Wanted, make, wanted
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

TEN_LINES = Path(__file__).with_name("ten_lines.py")

WEIGHTSTATS = str(Path(sysconfig.get_path("scripts")) / "weightstats")


@dataclass(frozen=True, slots=True)
class Subject:
    """A file to read, and with what beside weightstats."""

    label: str
    dtype: str
    path: Path
    tiny: Path
    """A file of the same format that is read at once: all that it takes is start-up."""

    peers: tuple[Command, ...]
    """Without the file."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What reading a file took, by the name of the command."""

    subject: Subject
    timings: Mapping[str, Timing]
    tree_peak: int
    """Bytes of all processes of weightstats together."""

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

    size = round(options.size * 1e9)
    networks = [wanted(folder, dtype.lower(), dtype, size, WIDTH) for dtype in TORCH_DTYPES]
    half, tiny = wanted(folder, "half", "F32", size // 2, WIDTH), wanted(folder, "tiny", "F32", TINY_SIZE, TINY_WIDTH)
    _in_other_process(make, (tiny, half, *networks))
    environment = _environment(folder)

    add(f"{_machine(options.peers)}\n")
    for path in tiny.paths.values():
        for command in (_inspect(path), _script(path)):
            run(command, environment)  # reads and compiles the modules
    add(_start_up(tiny.paths["safetensors"], options.repeats, environment))
    peers = _peers(options.peers, tiny.paths["torch zip"], environment)
    measured = []
    for subject in _subjects(networks, half, tiny, peers):
        measured.append(_measured(subject, options.repeats, environment))
        print(f"measured: {subject.label}", file=sys.stderr)
    add(_warm(measured))
    add(_memory(measured))
    add(_cold(measured[0].subject, environment))
    return parts


def _subjects(networks: list[Wanted], half: Wanted, tiny: Wanted, peers: dict[str, Command]) -> list[Subject]:
    """Each network in each format.

    The peers are slow: weightlens reads only the safetensors files, WeightWatcher has a smaller file for itself.
    """
    lens = tuple(peer for name, peer in peers.items() if name == "weightlens")
    subjects = [
        Subject(f"{network.dtype} {form}", network.dtype, path, tiny.paths[form], lens if form == "safetensors" else ())
        for network in networks
        for form, path in network.paths.items()
    ]
    if "WeightWatcher" in peers:
        form = "torch zip"
        watched = (peers["WeightWatcher"],)
        subjects.append(Subject(f"F32 {form}, half as large", "F32", half.paths[form], tiny.paths[form], watched))
    return subjects


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


def _peers(folder: Path | None, tiny: Path, environment: Mapping[str, str]) -> dict[str, Command]:
    """The peers that are there and work, without the file that they are to read."""
    if folder is None:
        return {}
    found = {}
    for peer in (
        Command("weightlens", (str(folder / "lens"), "analyze"), most_runs=1),
        Command("WeightWatcher", (str(folder / "python"), "-c", WEIGHTWATCHER), most_runs=1),
    ):
        try:
            run(_reading(peer, tiny), environment)  # also compiles its modules
        except (OSError, RuntimeError) as error:
            print(f"left out: {peer.name}: {error}", file=sys.stderr)
        else:
            found[peer.name] = peer
    return found


def _reading(command: Command, path: Path) -> Command:
    return replace(command, arguments=(*command.arguments, str(path)), file=path)


def _inspect(path: Path, name: str = "weightstats") -> Command:
    return Command(name, (WEIGHTSTATS, "inspect", str(path), "--format", "json"), path)


def _script(path: Path) -> Command:
    return Command("script", (sys.executable, str(TEN_LINES), str(path)), path, most_runs=3)


def _measured(subject: Subject, repeats: int, environment: Mapping[str, str]) -> Measured:
    path = subject.path
    own = (Command("cat", ("cat", str(path)), path), _inspect(path), _inspect(subject.tiny, name="start-up"))
    commands = [*own, _script(path), *(_reading(peer, path) for peer in subject.peers)]
    timings = interleaved(commands, repeats, environment)
    return Measured(subject, timings, peak_of_tree(_inspect(path), environment))


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
        Command(
            f"`weightstats inspect`, {tiny.stat().st_size / 1e6:.1f} MB", (WEIGHTSTATS, "inspect", str(tiny)), tiny
        ),
        _inspect(tiny, name="the same, `--format json`"),
    ]
    bars = {commands[0].name: "0.25", commands[1].name: "0.5", commands[2].name: ""}
    rows = [
        [name, f"{timing.median:.3f}", f"{timing.shortest:.3f}", bars[name], _megabytes(timing.peak)]
        for name, timing in interleaved(commands, repeats, environment).items()
    ]
    return _table("Start-up", ["command", "median s", "min s", "bar s", "peak MB"], rows)


def _warm(measured: list[Measured]) -> str:
    others = _others(measured)
    headings = ["file", "bytes", "cat s", "weightstats s", "min s", "start-up s", "(weightstats - start-up)/cat", "bar"]
    headings += [heading for name in others for heading in (f"{name} s", "times faster")]
    rows = []
    for one in measured:
        own, start, cat = (one.timings[name] for name in ("weightstats", "start-up", "cat"))
        row = [one.subject.label, f"{one.subject.path.stat().st_size:,}", f"{cat.median:.3f}"]
        row += [f"{own.median:.3f}", f"{own.shortest:.3f}", f"{start.median:.3f}"]
        row += [f"{one.times_cat:.2f}", f"{BARS[one.subject.dtype]:.0f}"]
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
        f"{name} on {one.subject.label} ({timing.disturbed} of {timing.runs})"
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
        row = [one.subject.label, peaks["weightstats"], _megabytes(one.tree_peak), "200"]
        rows.append(row + [peaks.get(name, "") for name in others])
    headings = ["file", "weightstats, largest process MB", "weightstats, all processes MB", "bar MB"]
    return _table("Peak memory", headings + [f"{name} MB" for name in others], rows)


def _cold(subject: Subject, environment: Mapping[str, str]) -> str:
    """The file read from the disk, by dd past the page cache and by weightstats."""
    title = "Files not in the page cache"
    if not os.access(DROP_CACHES, os.W_OK):
        return f"## {title}\n\nSkipped: only root may write {DROP_CACHES}.\n"
    path, tiny = subject.path, subject.tiny
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
    return _table(f"{title}: {subject.label}", headings, rows)


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
