"""Pickles are read as data: the records say what they hold, and nothing that they name is imported or called."""

import builtins
import collections
import io
import json
import math
import os
import pickle
import re
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from makers import Call, ending_soon

from weightstats.containers.pickle_records import (
    Global,
    Instance,
    Mapping,
    Persistent,
    PickleError,
    Record,
    Sequence,
    read_pickle,
)
from weightstats.limits import Limits, changed_limits

AUDITED = Path(__file__).parent / "audited.py"
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)


def root_of(content: bytes) -> Record:
    return read_pickle(io.BytesIO(content)).root


def plain(record: Record) -> Any:
    """Records as the Python objects that they stand for, as far as those are plain."""
    match record:
        case tuple():
            return tuple(plain(item) for item in record)
        case Sequence():
            return [plain(item) for item in record.items]
        case Mapping():
            return {plain(key): plain(value) for key, value in record.pairs}
        case Instance(callable=Global(name="encode"), arguments=(text, "latin1")):
            return text.encode("latin1")
        case Instance(callable=Global(name="bytes"), arguments=()):
            return b""
        case Instance(callable=Global(name="set" | "frozenset"), arguments=(items,)):
            return plain(items)
        case Instance(callable=Global(name="bytearray"), arguments=arguments):
            return plain(arguments[0]) if arguments else b""
    return record


def listed(thing: Any) -> Any:
    """Sets as lists and byte arrays as bytes: records do not tell them apart."""
    match thing:
        case tuple():
            return tuple(listed(item) for item in thing)
        case list() | set() | frozenset():
            return [listed(item) for item in thing]
        case dict():
            return {key: listed(value) for key, value in thing.items()}
        case bytearray():
            return bytes(thing)
    return thing


def audited(mode: str, pickles: list[bytes], folder: Path) -> tuple[int, list[Any]]:
    """The exit code and the answer of a process of its own, whose folder is `folder`."""
    done = subprocess.run(
        [sys.executable, AUDITED, mode],
        input=json.dumps([content.hex() for content in pickles]),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    return done.returncode, json.loads(done.stdout) if done.returncode == 0 else [done.stderr]


# What a pickle says


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"I42\n.", 42),
        (b"I01\n.", True),
        (b"N.", None),
        (b"L-7L\n.", -7),
        (b"F1.5\n.", 1.5),
        (b"S'text'\n.", "text"),
        (b"Vtext\\u00e4\n.", "textä"),
        (b"U\x02ab.", "ab"),
        (b"\x80\x02(K\x01K\x02t.", (1, 2)),
        (b"(I1\nI2\nl.", [1, 2]),
        (b"(S'a'\nI1\nd.", {"a": 1}),
        (b"\x80\x02]q\x00(K\x01K\x02e.", [1, 2]),
        (b"\x80\x04\x8f(K\x01\x90.", [1]),
        (b"\x80\x04(K\x01\x91.", [1]),
        (b"K\x01K\x020.", 1),
        (b"K\x01(K\x02K\x031.", 1),
        (b"K\x012\x86.", (1, 1)),
        (b"K\x05p3\n0g3\n.", 5),
        (b"\x80\x04K\x05\x940K\x06\x940h\x00h\x01\x86.", (5, 6)),
    ],
)
def test_opcodes_mean_what_the_format_says(content: bytes, expected: Any) -> None:
    assert plain(root_of(content)) == expected


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ordinary_objects_are_their_records(protocol: int) -> None:
    thing = {
        "numbers": [0, -1, 255, 256, 2**31, -(2**63), 2**200, 1.5, -0.0, math.inf],
        "text": ["", "ä", "\n\\", "\U0001f600", "x" * 300, "\ud800"],
        "bytes": [b"", b"abc\xff", b"x" * 300, bytearray(b"ab")],
        "containers": [(), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), [], {}, {1: {2: 3}}],
        "sets": [{1}, frozenset((2,)), set()],
        "constants": (None, True, False),
        7: "an integer key",
    }
    assert plain(root_of(pickle.dumps(thing, protocol))) == listed(thing)


KEYS = st.one_of(st.text(max_size=5), st.integers(), st.booleans(), st.none())
THINGS = st.recursive(
    st.one_of(KEYS, st.floats(allow_nan=False), st.binary(max_size=5), st.integers(-(2**2000), 2**2000)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.tuples(inner, inner), st.dictionaries(KEYS, inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(thing=THINGS, protocol=st.sampled_from(PROTOCOLS))
def test_any_plain_object_is_its_records(thing: Any, protocol: int) -> None:
    assert plain(root_of(pickle.dumps(thing, protocol))) == listed(thing)


def test_the_stream_ends_up_after_the_pickle() -> None:
    stream = io.BytesIO(pickle.dumps("first", 4) + pickle.dumps("second", 2) + b"rest")
    assert [read_pickle(stream).root, read_pickle(stream).root, stream.read()] == ["first", "second", b"rest"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_is_an_instance_with_all_that_would_have_been_put_into_it(protocol: int) -> None:
    ordered = collections.OrderedDict([("a", 1)])
    ordered.extra = [2]
    root = root_of(pickle.dumps(ordered, protocol))
    assert isinstance(root, Instance)
    assert root.class_name == "collections.OrderedDict"
    assert [*root.pairs.pairs] == [("a", 1)]
    assert plain(root.states[0]) == {"extra": [2]}


@pytest.mark.parametrize(
    ("content", "arguments"),
    [
        (b"cos\nsystem\n(S'id'\ntR.", ("id",)),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.", ("id",)),
        (b"(S'id'\nios\nsystem\n.", ("id",)),
        (b"(cos\nsystem\nS'id'\no.", ("id",)),
        (b"\x80\x02cos\nsystem\nU\x02id\x85\x81.", ("id",)),
        (b"\x80\x04cos\nsystem\nU\x02id\x85}\x92.", ("id",)),
    ],
    ids=["GLOBAL REDUCE", "STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"],
)
def test_every_way_to_call_is_only_written_down(content: bytes, arguments: tuple[str, ...]) -> None:
    found = read_pickle(io.BytesIO(content))
    assert found.root.class_name == "os.system"
    assert found.root.arguments == arguments
    assert [name.full_name for name in found.globals] == ["os.system"]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_object_s_class_is_named_by_whichever_way_it_is_made(protocol: int) -> None:
    assert root_of(pickle.dumps(Limits(), protocol)).class_name == "weightstats.limits.Limits"


def test_what_is_made_by_something_without_a_name_has_no_class_name() -> None:
    assert root_of(b"cos\ngetenv\n(S'x'\ntR(tR.").class_name == ""


def test_keywords_and_states_are_kept_as_they_come() -> None:
    root = root_of(b"\x80\x04cm\nn\n)}(U\x01kK\x05u\x92K\x01bK\x02b.")
    assert [plain(state) for state in root.states] == [{"k": 5}, 1, 2]


def test_what_is_put_into_an_instance_stays_with_it() -> None:
    root = root_of(b"cm\nn\n)R(K\x01K\x02eK\x03a(U\x01aK\x04uU\x01bK\x05s.")
    assert root.items.items == [1, 2, 3]
    assert root.pairs.pairs == [("a", 4), ("b", 5)]


def test_equal_keys_are_not_joined() -> None:
    assert root_of(b"}(U\x01aK\x01U\x01aK\x02u.").pairs == [("a", 1), ("a", 2)]


def test_what_lies_outside_the_pickle_is_listed() -> None:
    found = read_pickle(io.BytesIO(b"Pone\n\x8c\x03twoQ\x86."))
    assert [record.identity for record in found.persistents] == ["one", "two"]
    assert all(isinstance(record, Persistent) for record in found.root)


def test_a_shared_object_is_one_record() -> None:
    shared = [1]
    first, second = root_of(pickle.dumps((shared, shared), 2))
    assert first is second


def test_records_compare_by_identity_and_are_never_hashed_by_content() -> None:
    for kind in (Sequence, Mapping):
        assert kind() != kind()
        assert len({kind(), kind()}) == 2


# Nothing is executed


TOUCH = "open('{}', 'w').close()"
ATTACKS = {
    **{f"reduce system {protocol}": Call(os.system, ("touch canary",)) for protocol in PROTOCOLS},
    "eval": Call(builtins.eval, (TOUCH.format("canary"),)),
    "exec": Call(builtins.exec, (TOUCH.format("canary"),)),
    "open": Call(builtins.open, ("canary", "w")),
    "import": Call(builtins.__import__, ("antigravity_of_the_test",)),
    "popen": Call(subprocess.Popen, (["touch", "canary"],)),
}
PICKLES = {
    **{name: pickle.dumps(attack, int(name[-1]) if name[-1].isdigit() else 2) for name, attack in ATTACKS.items()},
    "inst": b"(S'touch canary'\nios\nsystem\n.",
    "obj": b"(cos\nsystem\nS'touch canary'\no.",
    "after a broken part": b"cos\nsystem\n(S'touch canary'\ntR0\xff.",
    "hidden in a state": b"cbuiltins\nobject\n)R}(S'x'\ncos\nsystem\n(S'touch canary'\ntRub.",
    "name made on the stack": b"\x80\x04(\x8c\x02os\x94\x8c\x06system\x941h\x00h\x01\x93\x8c\x0ctouch canary\x85R.",
}


def test_reading_an_attack_raises_no_audit_event_at_all(tmp_path: Path) -> None:
    code, names = audited("records", list(PICKLES.values()), tmp_path)
    assert code == 0, names
    assert all(names)
    assert [*tmp_path.iterdir()] == []


def test_the_guard_would_have_stopped_every_one_of_them(tmp_path: Path) -> None:
    assert audited("guarded load", list(PICKLES.values()), tmp_path) == (0, [99] * len(PICKLES))
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    "name", ["reduce system 0", "reduce system 4", "eval", "inst", "obj", "name made on the stack"]
)
def test_pickle_loads_would_have_run_it(tmp_path: Path, name: str) -> None:
    assert audited("load", [PICKLES[name]], tmp_path)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["canary"]


# Malformed pickles


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "pickle exhausted before seeing STOP"),
        (b".", "ends with 0 objects instead of one"),
        (b"N", "pickle exhausted before seeing STOP"),
        (b"X\x04\0\0\0abc.", "pickle exhausted before seeing STOP"),
        (b"K\x01K\x02.", "ends with 2 objects instead of one"),
        (b"(.", "ends with 1 objects instead of one"),
        (b"((.", "ends with 2 objects instead of one"),
        (b"\xff.", "opcode b'\\xff' unknown"),
        (b"\x80\x06N.", "claims protocol 6; the highest is 5"),
        (b"\x80\x09N.", "claims protocol 9; the highest is 5"),
        (b"\x82\x01.", "uses the opcode EXT1, which no checkpoint needs"),
        (b"\x83\x01\x00.", "uses the opcode EXT2, which no checkpoint needs"),
        (b"\x84\x01\x00\x00\x00.", "uses the opcode EXT4, which no checkpoint needs"),
        (b"\x80\x05\x97.", "uses the opcode NEXT_BUFFER, which no checkpoint needs"),
        (b"N\x98.", "uses the opcode READONLY_BUFFER, which no checkpoint needs"),
        *((opcode + b".", "takes what was never put there") for opcode in (b"0", b"2", b"p0\n", b"q\0", b"\x94")),
        *((opcode + b".", "takes what was never put there") for opcode in (b"\x85", b"\x86", b"\x87", b"a", b"s")),
        *(
            (opcode + b".", "takes what was never put there")
            for opcode in (b"R", b"\x81", b"\x92", b"b", b"\x93", b"Q")
        ),
        *((opcode + b".", "takes what was never put there") for opcode in (b"N\x86", b"NN\x87", b"Na", b"NNs", b"NR")),
        *((opcode + b".", "takes what was never put there") for opcode in (b"g0\n", b"h\0", b"j\0\0\0\0", b"Nq\0g1\n")),
        *((b"N" + opcode + b".", "a mark is missing") for opcode in (b"t", b"l", b"d", b"e", b"u", b"1", b"\x90")),
        *((b"N" + opcode + b".", "a mark is missing") for opcode in (b"o", b"ios\nsystem\n", b"\x91")),
        *((b"(" + opcode + b".", "takes a mark for an object") for opcode in (b"\x85", b"2", b"q\0", b"\x94", b"Na")),
        *((b"(" + opcode + b".", "takes a mark for an object") for opcode in (b"R", b"Nb", b"Q", b"N\x86", b"NNs")),
        (b"(o.", "is malformed after opcode 2"),
        (b"(Nd.", "a dict has a key without a value"),
        (b"}(Nu.", "a dict has a key without a value"),
        (b"NNa.", "appends to something that is not a list"),
        (b"}Na.", "appends to something that is not a list"),
        (b"N(Ne.", "appends to something that is not a list"),
        (b"N(N\x90.", "appends to something that is not a list"),
        (b"]NNs.", "sets an item of something that is not a dict"),
        (b"N(NNu.", "sets an item of something that is not a dict"),
        (b"\x80\x04NN\x93.", "names a global with something that is not text"),
        (b"\x80\x04U\x02os]\x93.", "names a global with something that is not text"),
        (b"X\xff\xff\xff\x7fabc.", "2147483647 bytes"),
        (b"B\xff\xff\xff\xffabc.", "4294967295 bytes"),
        (b"\x8a\xffabc.", "not enough data"),
        (b"\x8b\xff\xff\xff\x7fabc.", "not enough data"),
        (b"\x8b\xff\xff\xff\xffabc.", "is malformed after opcode 0"),
        (b"\x8d" + struct.pack("<Q", 2**63) + b"abc.", "is malformed after opcode 0"),
        (b"\x8e" + struct.pack("<Q", 2**64 - 1) + b"abc.", "is malformed after opcode 0"),
        (b"\x96" + struct.pack("<Q", 2**40) + b"abc.", "is malformed after opcode 0"),
        (b"T\xff\xff\xff\xffabc.", "is malformed after opcode 0"),
        (b"G\0\0.", "is malformed after opcode 0"),
        (b"M\0", "is malformed after opcode 0"),
        (b"\x80", "is malformed after opcode 0"),
        (b"cos\nsystem", "is malformed after opcode 0"),
        (b"Iabc\n.", "is malformed after opcode 0"),
        (b"Fabc\n.", "is malformed after opcode 0"),
        (b"Labc\n.", "is malformed after opcode 0"),
        (b"S'abc\n.", "is malformed after opcode 0"),
        (b"X\x01\0\0\0\xff.", "is malformed after opcode 0"),
        (b"\x8b\x02\x01\0\0" + b"\x7f" * 258 + b".", "more than the 256 that --limit pickle_integer_bytes=N sets"),
        (
            b"\x8b\xff\xff\x0f\0" + b"\x7f" * 0xFFFFF + b".",
            "more than the 256 that --limit pickle_integer_bytes=N sets",
        ),
        (b"L" + b"9" * 1000 + b"L\n.", "more than the 256 that --limit pickle_integer_bytes=N sets"),
        (b"L" + b"9" * 10**6 + b"L\n.", "is malformed after opcode 0"),
        (b"I" + b"9" * 10**6 + b"\n.", "is malformed after opcode 0"),
    ],
    ids=lambda value: repr(value[:20]) if isinstance(value, bytes) else "",
)
def test_a_malformed_pickle_is_refused_with_the_rule(content: bytes, problem: str) -> None:
    with ending_soon(), pytest.raises(PickleError, match=re.escape(problem)) as caught:
        read_pickle(io.BytesIO(content))
    assert str(caught.value).isprintable()


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    content=st.binary(max_size=40)
    | st.lists(st.sampled_from([bytes([code]) for code in b"().0NKabdeghlopqst}]RQ\x81\x85\x86\x92\x93\x94"])).map(
        b"".join
    )
)
def test_any_bytes_are_records_or_a_pickle_error(content: bytes) -> None:
    problem = ""
    try:
        read_pickle(io.BytesIO(content))
    except PickleError as error:
        problem = str(error)
    assert "\n" not in problem


def test_the_number_of_opcodes_is_bounded() -> None:
    with changed_limits({"pickle_opcodes": 3}):
        assert root_of(b"N0N.") is None
    with changed_limits({"pickle_opcodes": 2}), pytest.raises(PickleError, match="more than the 2 that --limit"):
        read_pickle(io.BytesIO(b"N0N0N."))


def test_an_integer_may_be_as_long_as_the_limit() -> None:
    assert root_of(pickle.dumps(2**2047, 2)) == 2**2047
    with pytest.raises(PickleError, match="more than the 256 that --limit pickle_integer_bytes=N sets"):
        root_of(pickle.dumps(2**2048, 2))


# Small pickles of large things


def test_a_list_that_holds_itself_is_read() -> None:
    with ending_soon():
        root = root_of(b"\x80\x02]q\x00h\x00a.")
        assert root.items == [root]


def test_a_tuple_doubled_60_times_is_read() -> None:
    with ending_soon():
        root = root_of(b"\x80\x02)" + b"".join(b"q%ch%c\x86" % (level, level) for level in range(60)) + b".")
        assert root[0] is root[1]


def test_a_list_of_ten_times_a_list_is_read_twelve_levels_deep() -> None:
    levels = (b"]q%c(" % level + b"h%c" % (level - 1) * 10 + b"e" for level in range(1, 13))
    with ending_soon():
        assert len(root_of(b"\x80\x02]q\x000" + b"0".join(levels) + b".").items) == 10


@pytest.mark.parametrize(
    "content",
    [b"]" * 100_000 + b"a" * 99_999 + b".", b")" + b"\x85" * 100_000 + b".", b"(" * 100_000 + b"t" * 100_000 + b"."],
)
def test_a_nesting_of_100_000_is_read(content: bytes) -> None:
    with ending_soon():
        root_of(content)


def test_a_memo_of_far_apart_numbers_is_as_large_as_its_entries() -> None:
    with ending_soon():
        assert root_of(b"K\x01r\xff\xff\xff\xffp1000000000000000000\ng1000000000000000000\n\x86.") == (1, 1)


def test_keys_are_not_hashed_however_they_collide() -> None:
    keys = b"".join(pickle.dumps(index * (2**61 - 1), 2)[2:-1] + b"N" for index in range(20_000))
    with ending_soon():
        assert len(root_of(b"\x80\x02}(" + keys + b"u.").pairs) == 20_000


def test_a_length_beyond_the_data_allocates_nothing() -> None:
    tracemalloc.start()
    try:
        with pytest.raises(PickleError):
            read_pickle(io.BytesIO(b"\x8e" + struct.pack("<Q", 2**31) + b"abc."))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
