"""The networks out of a folder of dumps that the tests look at: one of each family, the smallest.

    python selection.py FOLDER ../fixtures/architectures.json.gz

FOLDER is what `architectures.py` dumped. Of each tensor it keeps name, shape, dtype, kind, n_in and n_out.
"""

import gzip
import json
import re
import sys
from pathlib import Path
from typing import Any

SETTINGS = ("model_type", "num_attention_heads", "num_key_value_heads", "n_head", "multi_query")
"""What is kept of a configuration."""

FAMILIES = {"timm": r"[^_\d]+", "transformers": r"[A-Z]+[a-z]*\d*[a-z]*"}
"""The part of a name that all networks of a family share."""


def selected(folder: Path) -> dict[str, Any]:
    """The networks by library and name."""
    found: dict[str, Any] = {}
    for library, family in FAMILIES.items():
        smallest: dict[str, Path] = {}
        for path in sorted((folder / library).glob("*-small.json" if library == "transformers" else "*.json")):
            match = re.match(family, path.stem)
            key = match[0] if match is not None else path.stem
            if key not in smallest or path.stat().st_size < smallest[key].stat().st_size:
                smallest[key] = path
        for path in smallest.values():
            found[f"{library}/{path.stem}"] = _described(json.loads(path.read_text(encoding="utf-8")))
    return found


def _described(dump: dict[str, Any]) -> dict[str, Any]:
    config = dump.get("config") or {}
    return {
        "config": {key: config[key] for key in SETTINGS if key in config},
        "tensors": [
            [tensor[key] for key in ("name", "shape", "dtype", "kind", "n_in", "n_out")]
            for tensor in dump["tensors"]
            if tensor["tie"] is None
        ],
    }


def main() -> None:
    """Write the selection."""
    folder, target = map(Path, sys.argv[1:3])
    networks = selected(folder)
    text = json.dumps(networks, separators=(",", ":")).encode()
    target.write_bytes(gzip.compress(text, 9, mtime=0))
    print(f"{len(networks)} networks, {sum(len(one['tensors']) for one in networks.values()):,} tensors")


if __name__ == "__main__":
    main()
