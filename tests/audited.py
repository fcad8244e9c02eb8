"""Reads what standard input names in a process that ends with code 99 at whatever reading must not do.

`python audited.py MODE`, a JSON list on standard input, a JSON list on standard output. Modes:

    records        hexadecimal pickles -> the names that each would have imported; nothing at all is allowed
    files          paths -> what was found in each; only the file itself is opened, and only for reading
    load           hexadecimal pickles, given to pickle.loads with no guard: what they would have done
    guarded load   the same in a child each, under the guard -> exit codes; what stopped each is on standard error

In `files` the list is [paths to read before the guard stands, paths to read under it].
"""

import io
import json
import os
import pickle
import socket  # noqa: F401 - loaded, so that an attack gets as far as using it
import subprocess  # noqa: F401
import sys
from typing import Any

import gguf  # noqa: F401 - loaded, as every module of a reader is, before the guard stands

from weightstats.containers import hdf5_jail
from weightstats.containers.pickle_records import PickleError, read_pickle
from weightstats.errors import CheckpointError
from weightstats.readers import formats, open_checkpoint
from weightstats.tensors import Buffers

FORBIDDEN = 99

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

guard: dict[str, Any] = {"stands": False, "may_open": None, "harmless": set()}


def watch(event: str, arguments: tuple[Any, ...]) -> None:
    """The audit hook: imports, compilation, execution, files, sockets and processes all raise an event."""
    if not guard["stands"] or event in guard["harmless"]:
        return
    if event == "open" and (arguments[0] == os.devnull or isinstance(arguments[0], int)):
        return  # what a child process is given in place of a terminal, and a descriptor that is open already
    if event == "open" and arguments[0] == guard["may_open"] and not arguments[2] & _WRITING:
        return
    if event == "subprocess.Popen" and guard["may_open"] and arguments[1][:4] == [*hdf5_jail.COMMAND]:
        return  # what parses HDF5 files, with limits of its own
    os.write(2, f"{event} {arguments!r}\n".encode(errors="backslashreplace"))
    os._exit(FORBIDDEN)


def names_in(pickle_bytes: bytes) -> list[str]:
    try:
        return [name.full_name for name in read_pickle(io.BytesIO(pickle_bytes)).globals]
    except PickleError as error:
        return [f"PickleError: {error}"]


def found_in(path: str) -> dict[str, Any]:
    try:
        checkpoint = open_checkpoint(path)
    except CheckpointError as error:
        return {"error": str(error)}
    except Exception as error:
        return {"escaped": repr(error)}
    unread = [entry.reason for entry in checkpoint.unread]
    buffers, counts = Buffers(), []
    for tensor in checkpoint.tensors:
        try:
            blocks = [block.size for section in tensor.sections() for block in section.blocks(buffers)]
            counts.append(sum(blocks) * tensor.repeats == tensor.elements)
        except CheckpointError as error:
            unread.append(str(error))
        except Exception as error:
            return {"escaped": repr(error)}
    return {"format": checkpoint.format, "tensors": len(checkpoint.tensors), "whole": all(counts), "unread": unread}


def exit_code_of_loading(pickle_bytes: bytes) -> int:
    child = os.fork()
    if child == 0:
        guard.update(stands=True, harmless={"pickle.find_class"})  # looking a name up is not yet calling it
        try:
            pickle.loads(pickle_bytes)  # noqa: S301
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(mode: str, given: list[Any]) -> list[Any]:
    sys.addaudithook(watch)
    if mode == "load":
        return [str(pickle.loads(bytes.fromhex(text))) for text in given]  # noqa: S301
    if mode == "guarded load":
        return [exit_code_of_loading(bytes.fromhex(text)) for text in given]
    results: list[Any] = []
    if mode == "records":
        for protocol in range(6):
            names_in(pickle.dumps([1, 2**70, "ä", b"x", 1.5, {"a": (None,)}, complex], protocol))
        names_in(b"\xff")
        pickles = [bytes.fromhex(text) for text in given]
        guard["stands"] = True
        results = [names_in(content) for content in pickles]
    elif mode == "files":
        before, under_guard = given
        formats()
        for path in before:
            found_in(path)
        guard.update(stands=True, harmless={"builtins.id"})
        for path in under_guard:
            guard["may_open"] = path
            results.append(found_in(path))
    guard["stands"] = False
    return results


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], json.load(sys.stdin))))
