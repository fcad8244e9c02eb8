"""What runs in a process of its own to parse an HDF5 file: it says where the numbers lie, and reads none of them.

The HDF5 library is C code that a hostile file may well crash or mislead, so this process is given nothing but one open
descriptor (its standard input) and a pipe (its standard output); after the library is imported it cannot open a file
any more: no external link, external storage, virtual source or filter plugin is ever reached, whatever the file says.

Run as `python -I hdf5_child.py JOB`, with the job as JSON. The answer is one JSON object a line, the last one of the
kind "end". Nothing of weightstats is imported here: an isolated interpreter need not find it.
"""

import base64
import codecs
import contextlib
import importlib
import io
import json
import math
import os
import sys
from collections.abc import Iterator
from typing import Any

TEXTS = ("keras_version", "backend", "model_config", "layer_names", "weight_names", "name")
"""Attributes of groups that Keras writes and that are passed on; lists may go on as layer_names0, layer_names1..."""

PARTS = ("layer_names", "weight_names")

MOST_TEXTS = 1_000_000
"""Texts in one attribute."""

MOST_FILTERS = 32
"""Filters of one dataset: the library's own limit."""

COMPACT_BYTES = 1 << 16
"""The most that the format keeps inside a dataset's header."""


class Part(io.RawIOBase):
    """A part of the file behind a descriptor, as a file: all that the library ever reads."""

    def __init__(self, descriptor: int, base: int, size: int) -> None:
        self.descriptor, self.base, self.size, self.position = descriptor, base, size, 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place in the part."""
        self.position = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self.position, io.SEEK_END: self.size}[whence]
        return self.position

    def tell(self) -> int:
        """The place in the part."""
        return self.position

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer as far as the part goes."""
        view = memoryview(buffer).cast("B")
        count = max(0, min(len(view), self.size - self.position))
        view[:count] = self._read(count)
        self.position += count
        return count

    def _read(self, count: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self.descriptor, count, self.base + self.position)
        os.lseek(self.descriptor, self.base + self.position, os.SEEK_SET)
        return os.read(self.descriptor, count)


class Answer:
    """Lines on standard output, up to a total that is agreed on."""

    def __init__(self, most: int) -> None:
        self.left = most

    def say(self, kind: str, **fields: Any) -> None:
        """Write one line; where the total is reached, the last one and no more."""
        line = json.dumps({"kind": kind, **fields}, separators=(",", ":"), allow_nan=False) + "\n"
        self.left -= len(line)
        if self.left < 0:
            line = '{"kind":"over"}\n'
        sys.stdout.write(line)
        if self.left < 0:
            leave()


def leave() -> None:
    """End without the library's own tidying up, which crashes on some files."""
    sys.stdout.flush()
    os._exit(0)


class Walk:
    """Every link of the file, from the root, each group visited once."""

    def __init__(self, h5py: Any, job: dict[str, Any], answer: Answer) -> None:
        self.h5py, self.job, self.answer = h5py, job, answer
        self.seen: dict[int, list[str]] = {}
        self.chunks_left: int = job["chunks"]
        self.datasets = 0

    def run(self, root: Any) -> None:
        """Walk iteratively: a group is opened when its turn comes, and its links are listed before it is left."""
        waiting: list[tuple[Any, bytes, list[str]]] = []
        self._enter(root, [], waiting)
        while waiting:
            parent, name, path = waiting.pop()
            try:
                self._object(self.h5py.h5o.open(parent, name), path, waiting)
            except Exception as error:  # whatever the library raises, the other objects are not affected
                self.answer.say("dataset", path=path, reason=f"it is damaged: {in_short(error)}")

    def _object(self, opened: Any, path: list[str], waiting: list[tuple[Any, bytes, list[str]]]) -> None:
        h5py = self.h5py
        if isinstance(opened, h5py.h5t.TypeID):
            return
        address = address_of(h5py, opened)
        if isinstance(opened, h5py.h5g.GroupID):
            if address in self.seen:
                self.answer.say("group again", path=path, first=self.seen[address])
            elif len(path) >= self.job["depth"]:
                self.answer.say("too deep", path=path)
            else:
                self._enter(opened, path, waiting)
        elif address in self.seen:
            self.answer.say("again", path=path, address=address)
        else:
            self.seen[address] = path
            self.datasets += 1
            if self.datasets > self.job["tensors"]:
                self.answer.say("too many")
                leave()
            self.answer.say("dataset", path=path, address=address, **self._described(opened))

    def _enter(self, group: Any, path: list[str], waiting: list[tuple[Any, bytes, list[str]]]) -> None:
        """Say what is told of a group, and put what it links to in the queue."""
        self.seen[address_of(self.h5py, group)] = path
        if self.h5py.h5a.get_num_attrs(group):
            for name in TEXTS:
                self._texts(group, path, name)
        links: list[tuple[bytes, int]] = []
        group.links.iterate(lambda name, info: links.append((name, info.type)), info=True)
        if len(links) != len({name for name, _ in links}):
            self.answer.say("ambiguous", path=path)
            return
        for key, kind in reversed(links):
            below = [*path, key.decode("utf-8", "backslashreplace")]
            if kind != self.h5py.h5l.TYPE_HARD:
                self._link(group, key, kind, below)
            elif not key or key == b"." or b"/" in key:
                self.answer.say("dataset", path=below, reason="its name is one that the HDF5 library cannot look up")
            else:
                waiting.append((group, key, below))

    def _link(self, group: Any, name: bytes, kind: int, path: list[str]) -> None:
        target = ""
        with contextlib.suppress(Exception):
            value = group.links.get_val(name)
            parts = value if isinstance(value, tuple) else (value,)
            target = ":".join(part.decode("utf-8", "backslashreplace") for part in parts)[:1000]
        soft = kind == self.h5py.h5l.TYPE_SOFT
        self.answer.say("link", path=path, external=not soft, target=target)

    def _texts(self, group: Any, path: list[str], name: str) -> None:
        """An attribute that is text or a list of texts, in parts where Keras has written it in parts."""
        h5a = self.h5py.h5a
        names = [name]
        if name in PARTS and not h5a.exists(group, name.encode()):
            names = list(self._existing(group, name))
        texts: list[str] = []
        try:
            for part in names:
                if h5a.exists(group, part.encode()):
                    texts += self._text(group, part)
        except Exception as error:  # an attribute that cannot be read is one that is not there
            self.answer.say("no texts", path=path, name=name, reason=in_short(error))
            return
        if texts:
            self.answer.say("texts", path=path, name=name, texts=texts)

    def _existing(self, group: Any, name: str) -> Iterator[str]:
        for number in range(MOST_TEXTS):
            if not self.h5py.h5a.exists(group, f"{name}{number}".encode()):
                return
            yield f"{name}{number}"

    def _text(self, owner: Any, name: str) -> list[str]:
        h5py = self.h5py
        attribute = h5py.h5a.open(owner, name.encode())
        kind = attribute.get_type()
        count = attribute.get_space().get_simple_extent_npoints()
        if count == 0:
            return []
        if kind.get_class() != h5py.h5t.STRING:
            raise ValueError("it is not text")
        if count > MOST_TEXTS or (not kind.is_variable_str() and count * kind.get_size() > self.job["text"]):
            raise ValueError("it is too long")
        high = h5py.AttributeManager(type("Owner", (), {"id": owner})())
        value = high[name]
        values = value.reshape(-1).tolist() if hasattr(value, "reshape") else [value]
        texts = [item.decode("utf-8", "replace") if isinstance(item, bytes) else str(item) for item in values]
        if sum(map(len, texts)) > self.job["text"]:
            raise ValueError("it is too long")
        return texts

    def _described(self, dataset: Any) -> dict[str, Any]:
        """Shape, dtype and where the bytes lie; or the reason why it is not read."""
        h5py = self.h5py
        layout = dataset.get_create_plist()
        if layout.get_layout() == h5py.h5d.VIRTUAL:  # asking for its shape would open the files that it names
            return {"reason": "it is a virtual dataset, a view of other files: not opened"}
        if layout.get_external_count():
            return {"reason": "its bytes are in another file (external storage): not opened"}
        dtype, order, reason = self._dtype(dataset)
        if reason:
            return {"reason": reason}
        extent = dataset.get_space()
        if extent.get_simple_extent_type() == h5py.h5s.NULL:
            return {"dtype": dtype, "order": order, "shape": [0], "layout": "contiguous", "offset": None}
        shape = list(map(int, extent.get_simple_extent_dims()))
        described = {"dtype": dtype, "order": order, "shape": shape, **self._fill(layout, dataset, dtype)}
        if layout.get_layout() == h5py.h5d.CHUNKED:
            return {**described, **self._chunked(dataset, layout)}
        if layout.get_layout() == h5py.h5d.COMPACT:
            return {**described, "layout": "compact", "bytes": self._compact(dataset, shape)}
        offset = dataset.get_offset()
        size = int(dataset.get_storage_size())
        return {**described, "layout": "contiguous", "offset": None if offset is None else int(offset), "size": size}

    def _compact(self, dataset: Any, shape: list[int]) -> str:
        """The bytes in the dataset's own header, which is at most 64 kB."""
        numpy = importlib.import_module("numpy")
        size = int(dataset.get_storage_size())
        kind = dataset.get_type()
        if size > COMPACT_BYTES or math.prod(shape) * kind.get_size() != size:
            raise ValueError("its size is not that of its shape")
        raw = numpy.zeros(math.prod(shape), f"V{kind.get_size()}").reshape(shape)
        everything = self.h5py.h5s.ALL
        dataset.read(everything, everything, raw, mtype=kind)
        return base64.b64encode(raw.tobytes()).decode()

    def _fill(self, layout: Any, dataset: Any, dtype: str) -> dict[str, Any]:
        """The bytes of an element that was never written, where they are defined and not all zero."""
        h5d = self.h5py.h5d
        defined = layout.fill_value_defined()
        if defined != h5d.FILL_VALUE_USER_DEFINED:
            return {"fill": "" if defined == h5d.FILL_VALUE_DEFAULT else None}
        numpy = importlib.import_module("numpy")
        value = numpy.zeros((), dataset.dtype)
        layout.get_fill_value(value)
        return {"fill": base64.b64encode(value.tobytes()).decode()}

    def _chunked(self, dataset: Any, layout: Any) -> dict[str, Any]:
        """The filters, and [place in the dataset, address, stored bytes, filters left out] of each chunk."""
        filters = [layout.get_filter(index) for index in range(min(layout.get_nfilters(), MOST_FILTERS))]
        chunks: list[list[Any]] = []

        def take(chunk: Any) -> bool | None:
            place = list(map(int, chunk.chunk_offset))
            chunks.append([place, int(chunk.byte_offset), int(chunk.size), int(chunk.filter_mask)])
            return True if len(chunks) > self.chunks_left else None

        dataset.chunk_iter(take)
        if len(chunks) > self.chunks_left:
            return {"reason": "", "over": "chunks"}
        self.chunks_left -= len(chunks)
        return {
            "layout": "chunked",
            "chunk_shape": list(map(int, layout.get_chunk())),
            "filters": [
                [int(number), name.decode("utf-8", "replace"), list(map(int, values))]
                for number, _, values, name in filters
            ],
            "chunks": chunks,
        }

    def _dtype(self, dataset: Any) -> tuple[str, str, str]:
        """(dtype, byte order, why not): as the table of dtypes names it."""
        h5py, kind = self.h5py, dataset.get_type()
        name, order = numeric(h5py.h5t, kind)
        if not name and kind.get_class() == h5py.h5t.OPAQUE and kind.get_size() == 2:  # Keras 3 has no other way
            with contextlib.suppress(Exception):
                if self._text(dataset, "dtype") == ["bfloat16"]:
                    name, order = "BF16", "little"
        if name:
            return name, order, ""
        classes = {getattr(h5py.h5t, what.split()[0].upper()): what for what in CLASSES}
        what = classes.get(kind.get_class(), f"type class {kind.get_class()}")
        return "", "", f"its elements are of a type that is not read: {what}, {kind.get_size()} bytes each"


CLASSES = ("string", "compound", "vlen (lists of any length)", "enum", "reference", "array", "opaque", "bitfield",
           "integer of unusual layout", "float of unusual layout", "time", "complex")  # fmt: skip
"""How messages call the classes of types; the first word is the library's name for each."""

FLOATS = {
    (2, 10, 5, 15): "F16",
    (2, 7, 8, 127): "BF16",
    (4, 23, 8, 127): "F32",
    (8, 52, 11, 1023): "F64",
}
"""(bytes, bits of the fraction, bits of the exponent, bias): IEEE 754, and the upper half of a float32."""


def numeric(h5t: Any, kind: Any) -> tuple[str, str]:
    """(dtype, byte order) of a type of numbers, ('', '') of another one."""
    if kind.get_class() == h5t.ENUM:
        base = numeric(h5t, kind.get_super())
        members = [kind.get_member_name(index) for index in range(kind.get_nmembers())] if base[0] == "I8" else []
        return ("BOOL", "little") if members == [b"FALSE", b"TRUE"] else base
    if kind.get_class() == h5t.COMPOUND:
        return pair(h5t, kind)
    if kind.get_class() == getattr(h5t, "COMPLEX", None):
        part, order = numeric(h5t, kind.get_super())
        return {"F32": "C64", "F64": "C128"}.get(part, ""), order
    if kind.get_class() not in (h5t.INTEGER, h5t.FLOAT) or kind.get_order() not in (h5t.ORDER_LE, h5t.ORDER_BE):
        return "", ""
    order = "little" if kind.get_order() == h5t.ORDER_LE else "big"
    size = kind.get_size()
    if kind.get_precision() != 8 * size or kind.get_offset() != 0:
        return "", ""
    if kind.get_class() == h5t.INTEGER:
        sign = "U" if kind.get_sign() == h5t.SGN_NONE else "I"
        return (f"{sign}{8 * size}", order) if size in (1, 2, 4, 8) else ("", "")
    sign_at, exponent_at, exponent_bits, fraction_at, fraction_bits = kind.get_fields()
    in_place = (sign_at, exponent_at, fraction_at) == (8 * size - 1, fraction_bits, 0)
    usual = in_place and kind.get_norm() == h5t.NORM_IMPLIED
    return (FLOATS.get((size, fraction_bits, exponent_bits, kind.get_ebias()), "") if usual else ""), order


def pair(h5t: Any, kind: Any) -> tuple[str, str]:
    """A record of a real and an imaginary part, as h5py writes complex numbers."""
    if kind.get_nmembers() != 2 or [kind.get_member_name(0), kind.get_member_name(1)] != [b"r", b"i"]:
        return "", ""
    parts = [numeric(h5t, kind.get_member_type(index)) for index in range(2)]
    half = kind.get_size() // 2
    if parts[0] != parts[1] or [kind.get_member_offset(index) for index in range(2)] != [0, half]:
        return "", ""
    dtype = {("F32", 4): "C64", ("F64", 8): "C128"}.get((parts[0][0], half), "")
    return dtype, parts[0][1]


def address_of(h5py: Any, thing: Any) -> int:
    """Where the header of an object is."""
    return int(h5py.h5o.get_info(thing).addr)


def in_short(error: BaseException) -> str:
    """What an exception says, in one line: in the library's messages, what stands in brackets."""
    message = str(error).split("\n")[0]
    return (message.partition("(")[2].rpartition(")")[0] or message or type(error).__name__)[:200]


def bound(job: dict[str, Any]) -> None:
    """Set the limits that hold before the library is loaded; a platform without them has the time limit only."""
    with contextlib.suppress(ImportError):
        resource: Any = importlib.import_module("resource")
        limits = {"RLIMIT_AS": job["memory"], "RLIMIT_CPU": job["seconds"], "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
        for name, value in limits.items():
            with contextlib.suppress(ValueError, OSError, AttributeError):
                resource.setrlimit(getattr(resource, name), (value, value))


def open_nothing_more() -> None:
    """From here on no file can be opened, by whatever name; what is open stays open."""
    with contextlib.suppress(ImportError):
        resource: Any = importlib.import_module("resource")
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def main() -> None:
    """Answer one job."""
    job = json.loads(sys.argv[1])
    sys.path += [folder for folder in job["folders"] if folder not in sys.path]
    answer = Answer(job["answer"])
    bound(job)
    h5py: Any = importlib.import_module("h5py")
    for codec in ("ascii", "utf-8", "latin-1"):  # what would be imported on first use
        codecs.lookup(codec)
    open_nothing_more()
    try:
        file = h5py.File(Part(0, job["base"], job["size"]), "r")
        walk = Walk(h5py, job, answer)
        walk.run(h5py.h5g.open(file.id, b"/"))
    except MemoryError:
        answer.say("error", problem="")
    except Exception as error:  # any error of the library is the answer
        answer.say("error", problem=in_short(error))
    else:
        answer.say("end")
    leave()


if __name__ == "__main__":
    main()
