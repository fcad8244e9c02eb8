"""What --version says, and that it is quick."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

from weightstats import __version__, extras
from weightstats.commands import versions

PROJECT = tomllib.loads((Path(__file__).resolve().parent.parent / "pyproject.toml").read_text(encoding="utf-8"))[
    "project"
]


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=\[; ]", requirement)[0] for requirement in requirements}


def test_the_first_line_is_the_version_of_weightstats_alone() -> None:
    assert versions.versions().splitlines()[0] == f"weightstats {__version__}"


def test_python_and_its_platform_are_named() -> None:
    said = versions.versions().splitlines()[1].split()
    assert said[:2] == ["Python", ".".join(map(str, sys.version_info[:3]))]
    assert said[2] == f"({sys.implementation.name}),"
    assert len(said) > 3


@pytest.mark.parametrize(
    "name", [*versions.REQUIRED, *(name for found in versions.OPTIONAL.values() for name in found)]
)
def test_everything_that_is_used_has_its_version(name: str) -> None:
    assert re.search(rf"^{name} +{re.escape(version(name))}$", versions.versions(), re.MULTILINE)


def test_what_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(versions, "version", absent)
    said = versions.versions()
    assert re.search(r"^h5py +not installed \(extra hdf5\)$", said, re.MULTILINE)
    assert re.search(r"^vl-convert-python +not installed \(extra report\)$", said, re.MULTILINE)
    assert re.search(r"^torch +not installed$", said, re.MULTILINE)


def test_the_libraries_are_those_of_the_project() -> None:
    assert set(versions.REQUIRED) == names(PROJECT["dependencies"])
    optional = {extra: set(found) for extra, found in versions.OPTIONAL.items()}
    assert list(versions.OPTIONAL) == list(extras.MODULES)
    assert optional == {extra: names(PROJECT["optional-dependencies"][extra]) for extra in extras.MODULES}


def test_nothing_is_imported_for_its_version() -> None:
    code = (
        "import sys\nfrom weightstats.cli import main\ntry:\n    main()\nexcept SystemExit:\n    pass\n"
        "sys.exit(str(sorted({'numpy', 'scipy', 'torch', 'rich', 'pandas', 'altair'} & set(sys.modules))))"
    )
    done = subprocess.run([sys.executable, "-c", code, "--version"], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "[]"
    assert done.stdout == versions.versions()
