"""Write into the README what its commands print, so that it always shows real output. Run by `make readme`."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
WIDTH = 100

_BLOCK = re.compile(
    r"(?P<head>```console\n\$ (?P<command>weightstats [^\n]+)\n)(?P<output>.*?)(?P<tail>```)", re.DOTALL
)


def regenerated(text: str) -> str:
    """The README with the output of each `$ weightstats ...` block made anew."""
    return _BLOCK.sub(lambda block: block["head"] + output_of(block["command"]) + block["tail"], text)


def commands(text: str) -> list[str]:
    """The commands whose output the README shows."""
    return [block["command"] for block in _BLOCK.finditer(text)]


def output_of(command: str) -> str:
    """What the command prints on stdout in a terminal of WIDTH columns without colour."""
    arguments = [sys.executable, "-m", "weightstats", *command.split()[1:]]
    environment = os.environ | {"COLUMNS": str(WIDTH), "NO_COLOR": "1"}
    done = subprocess.run(arguments, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    return done.stdout


if __name__ == "__main__":
    README.write_text(regenerated(README.read_text(encoding="utf-8")), encoding="utf-8")
