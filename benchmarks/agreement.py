"""Whether a file tells weightstats what the classes of the live module say of the same network.

    python agreement.py --quick FOLDER [--library timm] [--only 'Bert.*'] [--order natural] [--no-config]
                        [--by-architecture] [--unknown]
    python agreement.py --live LIBRARY FOLDER [--only 'Bert.*'] [--measure]
    python agreement.py --document ../docs/agreement.md FOLDER [--held-out FOLDER]

FOLDER is what `architectures.py` dumped. `--quick` compares what weightstats makes of names and shapes with what the
dumps say of the modules' classes, without torch and without measuring. Every tensor whose module's class is known
counts, as it is stored (the three maps of a fused projection are one tensor); what nobody has looked at is listed by
`--unknown`. `--live` builds the networks, in an environment that has the library, and compares weightstats on the
module with weightstats on the file, layer by layer; its results go to FOLDER/live-LIBRARY.json. `--document` writes
both down, and the first run on networks of other libraries (`held_out.py`), where there was one.
"""

import argparse
import json
import re
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path

from differences import ORDERS, Compared, Difference, compared, dumps


def pattern(name: str) -> str:
    """The name with its numbers left out: the same for all blocks of a network."""
    return re.sub(r"(?<![A-Za-z])\d+", "#", name)


def print_summary(results: list[Compared]) -> None:
    """Agreement by library and order, then what differs, most frequent first."""
    for library in sorted({result.library for result in results}):
        for order in ORDERS:
            of = [result for result in results if (result.library, result.order) == (library, order)]
            if not of:
                continue
            layers, others = sum(r.layers for r in of), sum(r.others for r in of)
            extra = sum(d.what == "taken for a layer" for r in of for d in r.differences)
            wrong = sum(len(r.differences) for r in of) - extra
            whole = sum(not r.differences for r in of)
            print(
                f"{library}, {order} order: {100 * (1 - wrong / max(1, layers)):.3f} % of {layers:,} layers agree, "
                f"{100 * (1 - extra / max(1, others)):.3f} % of {others:,} others; "
                f"{whole} of {len(of)} networks wholly; {sum(len(r.unknown) for r in of):,} tensors unknown"
            )


def print_grouped(results: list[Compared], most: int) -> None:
    """Differences by what differs and the class that owns the tensor, with examples."""
    groups: dict[tuple[str, str, str], list[Difference]] = defaultdict(list)
    for result in results:
        for difference in result.differences:
            groups[difference.library, difference.what, f"{difference.owner} .{_tail(difference.name)}"].append(
                difference
            )
    for (library, what, where), of in sorted(groups.items(), key=lambda group: -len(group[1]))[:most]:
        networks = sorted({d.architecture for d in of})
        orders = "" if len({d.order for d in of}) > 1 else f" ({of[0].order} order only)"
        print(f"{len(of):6} {library}: {what}: {where}{orders}; {len(networks)} networks: {', '.join(networks[:4])}")
        first = of[0]
        print(f"       e.g. {first.architecture}: {first.name} {first.shape}: {first.truth},", end=" ")
        print(f"told {first.told} ({first.because})")


def print_by_architecture(results: list[Compared]) -> None:
    """One line for the same difference in all blocks of a network."""
    for result in results:
        lines = Counter((pattern(d.name), d.what, d.shape, d.truth, d.told) for d in result.differences)
        for (name, what, shape, truth, said), count in lines.items():
            where = f"{result.library}/{result.architecture} ({result.order})"
            print(f"{where}: {count} × {name} {shape}: {what}: {truth}, told {said}")


def print_unknown(results: list[Compared]) -> None:
    """What the file tells of parameters whose module's class is not known, by class and name."""
    groups: dict[tuple[str, str, str, int], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for result in results:
        for owner, name, shape, words in result.unknown:
            key = (result.library, owner, re.sub(r"\d+", "#", name.rpartition(".")[2]), len(shape))
            sizes = "×".join(str(size) for size in shape)
            groups[key][re.sub(r"\d+→\d+", "", words)].append(f"{result.architecture}:{name} {sizes} {words}")
    for (library, owner, leaf, rank), told_as in sorted(groups.items()):
        for words, examples in told_as.items():
            print(f"{library} {owner}.{leaf} rank {rank}: {len(examples)} × {words}; e.g. {examples[0]}")


def _tail(name: str) -> str:
    """The last two parts of a name, without numbers."""
    return ".".join(pattern(name).split(".")[-2:])


def quick(wanted: argparse.Namespace) -> None:
    """Files' names and shapes against the dumped classes."""
    results = [
        compared(network, order, config=not wanted.no_config)
        for network in dumps(wanted.folder, wanted.library, wanted.only)
        for order in wanted.order or ORDERS
    ]
    if wanted.by_architecture:
        print_by_architecture(results)
    elif wanted.unknown:
        print_unknown(results)
    else:
        print_grouped(results, wanted.most)
    print_summary(results)


def live(wanted: argparse.Namespace) -> None:
    """Files against live modules, both by weightstats."""
    import torch
    from architectures import architectures
    from live import met

    torch.set_num_threads(1)
    results = []
    skipped = []
    for architecture in architectures(wanted.live):
        folder = wanted.folder / wanted.live
        dumped = (folder / f"{architecture.name}.json").exists()
        smaller = (folder / f"{architecture.name}-small.json").exists()
        if not dumped or smaller or (wanted.only and not re.fullmatch(wanted.only, architecture.name)):
            continue
        try:
            found = list(met(architecture, measure=wanted.measure))
        except Exception as error:  # whatever a library raises is a reason; weightstats' own shows in the list
            skipped.append(f"{architecture.name}: {type(error).__name__}: {str(error)[:200]}")
            print(skipped[-1])
            continue
        results += found
        for one in found:
            for name, of_module, of_file in one.differences:
                print(f"{one.architecture} ({one.format}): {name}: module {of_module}; file {of_file}")
            if one.format == "safetensors":
                for name, by_class, of_module in one.against_classes:
                    print(
                        f"{one.architecture}: {name}: the class says {by_class}, weightstats on the module {of_module}"
                    )
    tensors, agreeing = sum(one.tensors for one in results), sum(one.agreeing for one in results)
    share = 100 * agreeing / max(1, tensors)
    print(f"{wanted.live}: {share:.3f} % of {tensors:,} tensors in {len(results)} files; {len(skipped)} skipped")
    if not wanted.only:
        path = wanted.folder / f"live-{wanted.live}.json"
        path.write_text(
            json.dumps({"measured": wanted.measure, "networks": [asdict(one) for one in results], "skipped": skipped})
        )


def main() -> None:
    """Compare, and print or write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    how = parser.add_mutually_exclusive_group(required=True)
    how.add_argument("--quick", action="store_true", help="names and shapes against the dumps")
    how.add_argument("--live", metavar="LIBRARY", help="files against modules")
    how.add_argument("--document", type=Path, metavar="FILE", help="write all down")
    parser.add_argument("--held-out", type=Path, metavar="FOLDER", help="whose first run the document tells of")
    parser.add_argument("--library", default="")
    parser.add_argument("--only", default="", help="regular expression that the whole name of a network matches")
    parser.add_argument("--order", choices=ORDERS, action="append")
    parser.add_argument("--no-config", action="store_true", help="as if no config.json lay beside the file")
    parser.add_argument("--by-architecture", action="store_true")
    parser.add_argument("--unknown", action="store_true")
    parser.add_argument("--measure", action="store_true", help="with weightstats.inspect, not with list_layers")
    parser.add_argument("--most", type=int, default=60, help="groups of differences that are printed")
    wanted = parser.parse_args()
    if wanted.quick:
        quick(wanted)
    elif wanted.live:
        live(wanted)
    else:
        from agreement_document import document

        wanted.document.write_text(document(wanted.folder, wanted.held_out))


if __name__ == "__main__":
    main()
