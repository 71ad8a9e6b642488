"""Every kernel on both implementations: equal results, equal exceptions; vectors by hand, oracles by other people."""

import ast
import inspect
import json
import os
import random
import shutil
import subprocess
import sys
import tracemalloc
from array import array
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import accumulate, chain, pairwise
from pathlib import Path
from struct import pack, unpack

import cbor2
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import native
from native import _pure, _pure_log

try:
    from native import _kernels
except ImportError as error:
    _kernels, MISSING = None, f"the compiled kernels are not built, so their twins go untested: {error}"
else:
    MISSING = ""

ROOT = Path(native.__file__).parents[1]
KERNELS = [name for name in native.__all__ if name.islower()]
BOTH = [_pure] if MISSING else [_pure, _kernels]
SEPARATORS = b"|^~&"


def for_any(*strategies):
    """Hypothesis without its stopwatch: a slow machine is no finding."""
    unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    return lambda test: unhurried(given(*strategies)(test))


both = pytest.mark.parametrize("kernels", BOTH, ids=lambda module: module.__name__)
compiled = pytest.mark.skipif(bool(MISSING), reason=MISSING)


def outcome(kernels, name, *args):
    """What a call gives: its result, or its exception's type."""
    try:
        return getattr(kernels, name)(*args)
    except Exception as error:
        return type(error)


def agreed(name, *args):
    """The outcome that all implementations share; an assertion where they differ."""
    expected = outcome(_pure, name, *args)
    for kernels in BOTH[1:]:
        assert outcome(kernels, name, *args) == expected, (name, args)
    return expected


def test_compiled_kernels_are_built_where_ci_is_set():
    if MISSING and os.environ.get("CI"):
        pytest.fail(MISSING)
    if MISSING:
        pytest.skip(MISSING)


def test_stub_and_compiled_kernels_have_the_signatures_of_the_specification():
    stub = ast.parse((ROOT / "native/_kernels.pyi").read_text())
    declared = {node.name: ast.unparse(node) for node in stub.body if isinstance(node, ast.FunctionDef)}
    specified = ast.parse(
        "\n".join((ROOT / "native" / name).read_text() for name in ("_pure.py", "_pure_log.py", "_pure_json.py"))
    )
    expected = {}
    for node in specified.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            node.body = [ast.Expr(ast.Constant(...))]
            expected[node.name] = ast.unparse(node)
    assert declared == expected
    assert sorted(expected) == sorted(KERNELS)
    for kernels in BOTH:
        for name in KERNELS:
            assert list(inspect.signature(getattr(kernels, name)).parameters) == list(
                inspect.signature(getattr(_pure, name)).parameters
            )


# The choice


def start(wanted, root=ROOT):
    # -S: the standard library must be enough, and an editable install would find the compiled twin for any copy
    environment = {**os.environ, "WASL_KERNELS": wanted, "PYTHONPATH": str(root)}
    command = [
        sys.executable,
        "-S",
        "-c",
        "import native; print(native.IMPLEMENTATION, native.er7_index(b'', b'|^~&').hex())",
    ]
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)


def test_python_twin_starts_when_it_is_named():
    assert start("python").stdout.split() == ["python", "00" * 8]


@compiled
@pytest.mark.parametrize("wanted", ["cython", "auto"])
def test_compiled_twin_starts_when_it_is_named_or_there(wanted):
    assert start(wanted).stdout.split() == ["cython", "00" * 8]


@pytest.mark.parametrize("wanted", ["fortran", "", "Python"])
def test_unknown_name_refuses_to_start(wanted):
    run = start(wanted)
    assert run.returncode != 0
    assert f"WASL_KERNELS={wanted!r} is unknown: use auto, cython or python" in run.stderr


@pytest.mark.parametrize(("wanted", "starts"), [("auto", True), ("python", True), ("cython", False)])
def test_missing_compiled_twin_refuses_to_start_only_when_it_is_named(tmp_path, wanted, starts):
    (tmp_path / "native").mkdir()
    for name in ("__init__.py", "_pure.py", "_pure_log.py", "_pure_json.py"):
        shutil.copy(ROOT / "native" / name, tmp_path / "native" / name)
    run = start(wanted, tmp_path)
    assert (run.returncode == 0) is starts
    assert run.stdout.startswith("python") if starts else "build it, or use auto" in run.stderr


# ER7

MESSAGE = (
    "MSH|^~\\&|ANALYZER|CLINIC 7\rPID|||1001^^^NHR~98^^^A&B||اختبار^مريض\r\n\r\nOBX|1|NM||13.2\rOBX|2|ST|\r"
).encode()

er7_bytes = st.lists(
    st.sampled_from([b"|", b"^", b"~", b"&", b"\\", b"\r", b"\n", b"\r\n", b"A", b"PID", b"OBX", "م".encode(), b"\x00"])
).map(b"".join)
separator_bytes = st.one_of(
    st.just(SEPARATORS), st.lists(st.sampled_from(b"|^~&\r\nA\x00"), min_size=4, max_size=4).map(bytes)
)
small = st.integers(-1, 4)
er7_paths = st.lists(
    st.tuples(st.sampled_from([b"PID", b"OBX", b"A", b"", b"PIDA"]), small, small, st.integers(-2, 3), small, small),
    max_size=6,
)


def test_index_has_the_shape_that_its_contract_says():
    index = agreed("er7_index", b"A|b~c\r\n\rD^e&f", SEPARATORS)
    assert unpack("=14I", index) == (2, 4, 0, 5, 0, 2, 8, 13, 2, 4, 1, 3 | 1 << 30, 9 | 2 << 30, 11 | 3 << 30)


def test_line_feed_ends_segments_only_where_there_is_no_carriage_return():
    assert unpack("=10I", agreed("er7_index", b"\nA\n\nB", SEPARATORS)) == (2, 0, 1, 2, 0, 0, 4, 5, 0, 0)
    assert unpack("=6I", agreed("er7_index", b"A\n\nB\r\n", SEPARATORS)) == (1, 0, 0, 4, 0, 0)


def test_byte_that_is_named_twice_has_its_first_meaning():
    assert unpack("=7I", agreed("er7_index", b"a|b", b"||||"))[-1] == 1
    assert unpack("=7I", agreed("er7_index", b"a^b", b"|^^^"))[-1] == 1 | 2 << 30


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ((b"MSH", 0, 0, -1, 0, 0), b"MSH"),
        ((b"MSH", 0, 1, -1, 0, 0), b"^~\\&"),
        ((b"MSH", 0, 3, -1, 0, 0), b"CLINIC 7"),
        ((b"MSH", 0, 4, -1, 0, 0), None),
        ((b"PID", 0, 1, -1, 0, 0), b""),
        ((b"PID", 0, 3, -1, 0, 0), b"1001^^^NHR~98^^^A&B"),
        ((b"PID", 0, 3, 0, 0, 0), b"1001^^^NHR"),
        ((b"PID", 0, 3, 1, 4, 0), b"A&B"),
        ((b"PID", 0, 3, 1, 4, 2), b"B"),
        ((b"PID", 0, 3, -1, 4, 0), b"NHR"),  # the component counts within the first repetition
        ((b"PID", 0, 3, -1, 0, 1), b"1001"),
        ((b"PID", 0, 3, 0, 2, 0), b""),
        ((b"PID", 0, 3, 0, 5, 0), None),
        ((b"PID", 0, 3, 2, 0, 0), None),
        ((b"PID", 0, 3, 1, 4, 3), None),
        ((b"PID", 0, 5, 0, 2, 0), "مريض".encode()),
        ((b"OBX", 1, 1, -1, 0, 0), b"2"),
        ((b"OBX", 1, 3, -1, 0, 0), b""),
        ((b"OBX", 2, 1, -1, 0, 0), None),
        ((b"ZZZ", 0, 1, -1, 0, 0), None),
        ((b"PID", 2**70, 2**70, 2**70, 2**70, 2**70), None),
        ((b"PID", 0, 3, -(2**70), 0, 0), ValueError),
        ((b"PID", -1, 3, -1, 0, 0), ValueError),
        ((b"PID", 0, 3, -2, 0, 0), ValueError),
        ((b"PID", 0, 3), ValueError),
    ],
)
def test_path_reads_what_stands_there(path, expected):
    index = agreed("er7_index", MESSAGE, SEPARATORS)
    result = agreed("er7_read", MESSAGE, index, [path])
    assert result == (ValueError if expected is ValueError else [expected])


@for_any(er7_bytes, separator_bytes, er7_paths)
def test_index_and_reads_of_any_message_agree(message, separators, paths):
    index = agreed("er7_index", message, separators)
    spans = agreed("er7_spans", message, index, paths)
    reads = agreed("er7_read", message, index, paths)
    if reads is not ValueError:
        assert reads == [span and message[slice(*span)] for span in spans]


@pytest.mark.parametrize("seed", range(20))
def test_random_bytes_and_paths_in_any_order_agree(seed):
    dice = random.Random(seed)
    message = dice.randbytes(dice.randrange(6000))
    separators = bytes(dice.choices(range(256), k=4))
    index = agreed("er7_index", message, separators)
    segments = message.split(b"\r")
    names = [segment.split(separators[:1])[0] for segment in segments]
    paths = [(dice.choice(names), *(dice.choice([0, 0, 1, 2, 7]) for _ in range(5))) for _ in range(50)]
    agreed("er7_read", message, index, paths)


@for_any(er7_bytes, st.data(), er7_paths)
def test_index_that_was_tampered_with_never_reads_outside(message, data, paths):
    index = bytearray(_pure.er7_index(message, SEPARATORS))
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(index) // 4 - 1))
        index[4 * at : 4 * at + 4] = pack(
            "=I", data.draw(st.sampled_from([0, 1, 2, 5, 8, 1 << 30, 2**31 - 1, 2**32 - 1]))
        )
    index = bytes(index[: data.draw(st.sampled_from([len(index), len(index) - 4, 7, 8, 0]))])
    agreed("er7_read", message, index, paths)
    agreed("er7_spans", message + b"tail", index, paths)


def test_separators_of_another_length_are_refused():
    for separators in (b"", b"|^~", b"|^~&#"):
        assert agreed("er7_index", MESSAGE, separators) is ValueError


def test_message_of_a_gibibyte_is_refused():
    assert agreed("er7_index", bytes(2**30), SEPARATORS) is ValueError


# MLLP

START, END, RESTART = b"\x0b", b"\x1c\r", b"MSH"
mllp_pieces = [b"\x0b", b"\x1c", b"\r", b"M", b"MS", b"MSH", b"\x0bMSH", b"\x1c\r", b"\x1c\x0b", b"x", "م".encode()]
mllp_bytes = st.lists(st.sampled_from(mllp_pieces), max_size=30).map(b"".join)


@pytest.mark.parametrize(
    ("buffer", "expected"),
    [
        (b"", ([], -1, 0)),
        (b"xy", ([(0, 0, 2)], -1, 2)),
        (b"\x0bab\x1c\r", ([(1, 1, 3)], -1, 5)),
        (b"x\x0b\x1c\r\n\x0ba", ([(0, 0, 1), (1, 2, 2), (0, 4, 5)], 6, 7)),
        (b"\x0ba\x1c", ([], 1, 2)),  # undecided
        (b"\x0ba\x1cb\x1c\r", ([(1, 1, 4)], -1, 6)),  # a FS as content
        (b"\x0ba\x1c\x0bb\x1c\r", ([(2, 1, 2), (1, 4, 5)], -1, 7)),  # CR missing
        (b"\x0ba\x0bMSH\x1c\r", ([(3, 1, 2), (1, 3, 6)], -1, 8)),  # end block missing
        (b"\x0ba\x0bMSX\x1c\r", ([(1, 1, 6)], -1, 8)),  # a VT as content
        (b"\x0ba\x0bMS", ([], 1, 2)),  # undecided
        (b"\x0ba\x0b", ([], 1, 2)),
    ],
)
def test_scan_finds_the_frames(buffer, expected):
    assert agreed("mllp_scan", buffer, -1, 0, RESTART) == expected
    assert agreed("mllp_scan", bytearray(buffer), -1, 0, RESTART) == expected


def scan_in_chunks(kernels, stream, cuts):
    """Frames, noise and the rest, as a decoder sees them that drops what it has used and scribbles on what was searched."""
    buffer, dropped, opened, searched = bytearray(), 0, -1, 0
    frames, noise = [], b""
    for start_at, end_at in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        buffer += stream[start_at:end_at]
        buffer[:searched] = b"\x1c" * searched  # would show if anything before `searched` were looked at again
        events, opened, searched = kernels.mllp_scan(buffer, opened, searched, RESTART)
        for kind, start, end in events:
            if kind == native.NOISE:
                noise += buffer[start:end]
            else:
                frames.append((kind, dropped + start, dropped + end))
        keep = searched if opened < 0 else opened
        del buffer[:keep]
        dropped, searched, opened = dropped + keep, searched - keep, -1 if opened < 0 else 0
    return frames, noise, dropped, opened, searched


@both
@for_any(mllp_bytes, st.data())
@example(b"\x0bMSH\x0bMSH\x1c\x0b\x1c\r", None)
def test_any_chunking_gives_the_same_frames(kernels, stream, data):
    whole = scan_in_chunks(kernels, stream, [])
    bytewise = scan_in_chunks(kernels, stream, range(1, len(stream)))
    assert bytewise == whole
    if data is not None:
        cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
        assert scan_in_chunks(kernels, stream, cuts) == whole


@for_any(mllp_bytes, st.integers(-3, 40), st.integers(-2, 40), st.sampled_from([b"MSH", b"", b"\x0b", b"\x1c\r"]))
def test_scans_from_any_state_agree(buffer, opened, searched, restart):
    expected = agreed("mllp_scan", buffer, opened, searched, restart)
    assert (expected is ValueError) is not (-1 <= opened <= searched <= len(buffer) and searched >= 0)


@pytest.mark.parametrize("huge", [2**63, 2**64, -(2**63), -(2**64)])
def test_offsets_beyond_the_machine_are_refused(huge):
    assert agreed("mllp_scan", b"abc", huge, 0, RESTART) is ValueError
    assert agreed("mllp_scan", b"abc", -1, huge, RESTART) is ValueError


@both
def test_buffer_can_grow_again_after_a_scan(kernels):
    buffer = bytearray(b"\x0bab\x1c\r")
    kernels.mllp_scan(buffer, -1, 0, RESTART)
    buffer += b"more"
    with pytest.raises(ValueError):
        kernels.mllp_scan(buffer, 99, 0, RESTART)
    buffer.clear()


@pytest.mark.parametrize("seed", range(10))
def test_random_streams_agree(seed):
    dice = random.Random(seed)
    stream = b"".join(dice.choices([*mllp_pieces, dice.randbytes(50)], k=400))
    agreed("mllp_scan", stream, -1, 0, RESTART)


# CBOR

leaf_values = st.one_of(
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([0, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, -24, -25, -256, -257]),
    st.booleans(),
    st.none(),
    st.binary(max_size=300),
    st.text("aZ \x00üنص漢😀", max_size=80),
)
values = st.one_of(
    leaf_values, st.recursive(leaf_values, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)
)
maps = st.dictionaries(st.integers(0, 2**64 - 1) | st.integers(0, 300), values, max_size=30).map(
    lambda d: sorted(d.items())
)


def depth(value):
    return 1 + max(map(depth, value), default=0) if isinstance(value, tuple) else 0


@for_any(maps)
@example([(number, "نص") for number in range(300)])
def test_map_is_what_cbor2_writes_canonically(pairs):
    expected = agreed("cbor_map", pairs)
    if max((depth(value) for _, value in pairs), default=0) > _pure_log.ARRAY_NESTING_MAX:
        assert expected is ValueError
    else:
        assert expected == cbor2.dumps(dict(pairs), canonical=True)


def test_map_is_the_bytes_that_rfc_8949_shows():
    pairs = [(0, 1000000000000), (1, -1), (2, b"\x01\x02"), (23, "ü"), (24, (False, True, None, ())), (500, 2**64 - 1)]
    expected = "a6001b000000e8d4a510000120024201021762c3bc181884f4f5f6801901f41bffffffffffffffff"
    assert agreed("cbor_map", pairs).hex() == expected


@pytest.mark.parametrize(
    ("pairs", "error"),
    [
        ([(-1, 0)], ValueError), ([(2**64, 0)], ValueError), ([(1, 0), (1, 0)], ValueError), ([(2, 0), (1, 0)], ValueError),
        ([(1, 2**64)], ValueError), ([(1, -(2**63) - 1)], ValueError), ([(1, -(2**70))], ValueError),
        ([(1, (((((),),),),))], ValueError), ([(1, "\ud800")], UnicodeEncodeError), ([(1, 1.5)], TypeError),
        ([(1, [2])], TypeError), ([(1, bytearray(2))], TypeError), ([(1, {})], TypeError), ([(True, 0)], TypeError),
        ([("1", 0)], TypeError), ([(1, 2, 3)], ValueError), ([(1,)], ValueError), ([7], TypeError),
    ],
)  # fmt: skip
def test_map_that_a_header_cannot_hold_is_refused(pairs, error):
    assert agreed("cbor_map", pairs) is error


# The log

# the leaves and roots with which Certificate Transparency tests its trees
CT_LEAVES = [bytes.fromhex(text) for text in
             ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")]  # fmt: skip
CT_ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def naive_root(entries):
    """RFC 9162 2.1.1, word for word."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\x00" + entries[0]).digest()
    k = 1 << (len(entries) - 1).bit_length() - 1
    return sha256(b"\x01" + naive_root(entries[:k]) + naive_root(entries[k:])).digest()


@pytest.mark.parametrize("size", range(9))
def test_root_is_the_one_that_certificate_transparency_tests_with(size):
    peaks = agreed("frontier_append", 0, b"", agreed("leaf_hashes", CT_LEAVES[:size]))
    assert agreed("frontier_root", size, peaks).hex() == CT_ROOTS[size]


@for_any(st.lists(st.binary(max_size=20), max_size=70), st.integers(0, 70))
def test_root_is_that_of_the_rfc_wherever_the_tree_is_cut(entries, cut):
    cut = min(cut, len(entries))
    peaks = agreed("frontier_append", 0, b"", agreed("leaf_hashes", entries[:cut]))
    peaks = agreed("frontier_append", cut, peaks, agreed("leaf_hashes", entries[cut:]))
    assert agreed("frontier_root", len(entries), peaks) == naive_root(entries)


@pytest.mark.parametrize(
    ("size", "peaks", "leaves"),
    [
        (0, 32, 0), (1, 0, 0), (1, 64, 0), (3, 32, 0), (1, 31, 0), (-1, 0, 0), (-(2**80), 0, 0),
        (2**63, 32, 0), (2**64, 32, 0), (2**63 - 1, 63 * 32, 32), (0, 0, 31), (0, 0, 33),
    ],
)  # fmt: skip
def test_frontier_that_no_tree_has_is_refused(size, peaks, leaves):
    assert agreed("frontier_append", size, bytes(peaks), bytes(leaves)) is ValueError
    if not leaves:
        assert agreed("frontier_root", size, bytes(peaks)) is ValueError


def test_largest_tree_is_accepted():
    assert len(agreed("frontier_root", 2**63 - 1, bytes(63 * 32))) == 32
    assert len(agreed("frontier_append", 2**63 - 2, bytes(62 * 32), bytes(32))) == 63 * 32


@for_any(st.binary(min_size=16, max_size=16), st.binary(max_size=400), st.binary(max_size=400))
def test_commitment_is_over_salt_particulars_as_cbor_and_body(salt, particulars, body):
    expected = sha256(salt + cbor2.dumps(particulars) + body).digest()
    assert agreed("body_commitment", salt, particulars, body) == expected


@pytest.mark.parametrize("length", [0, 15, 17, 32])
def test_salt_of_another_length_is_refused(length):
    assert agreed("body_commitment", bytes(length), b"", b"") is ValueError


KEYS, KEY = (24, 25, 27, 28), 26  # above those that a header begins with here
records = st.lists(
    st.tuples(
        st.dictionaries(st.integers(0, 23), st.just(None), max_size=23),
        st.tuples(*[leaf_values] * 4),
        st.binary(max_size=40),
        st.binary(max_size=300),
    ),
    max_size=9,
)


def group(size, entries, seed=7):
    """Arguments of seal_group for records appended to a tree of this size."""
    dice = random.Random(seed)
    peaks = _pure.frontier_append(0, b"", dice.randbytes(32 * size))
    return [
        size,
        peaks,
        [cbor2.dumps(start) for start, _, _, _ in entries],
        KEYS,
        [[values[n] for _, values, _, _ in entries] for n in range(len(KEYS))],
        KEY,
        dice.randbytes(16 * len(entries)),
        [p for _, _, p, _ in entries],
        [b for _, _, _, b in entries],
    ]


@for_any(st.integers(0, 20), records)
def test_group_is_sealed_as_its_records_one_by_one(size, entries):
    arguments = group(size, entries)
    _, peaks, starts, _, columns, _, salts, particulars, bodies = arguments
    encoded, leaves, new_peaks, root = agreed("seal_group", *arguments)
    expected = []
    for at, start in enumerate(starts):
        commitment = _pure.body_commitment(salts[16 * at : 16 * at + 16], particulars[at], bodies[at])
        cells = {key: column[at] for key, column in zip(KEYS, columns, strict=True) if column[at] is not None}
        rest = {**cells, KEY: commitment}
        expected.append(cbor2.dumps(cbor2.loads(start) | {key: rest[key] for key in sorted(rest)}))
    assert encoded == expected
    assert leaves == _pure.leaf_hashes(expected)
    assert new_peaks == _pure.frontier_append(size, peaks, leaves)
    assert root == _pure.frontier_root(size + len(starts), new_peaks)


TWO = [({1: 1, 9: "نص"}, (7, "نص", None, 1), b"p", b"body"), ({}, (1, None, None, (2, b"")), b"", b"")]
BEGIN = cbor2.dumps({1: 1})
ONES = [[1, 1]] * 3
FAULTS = [
    (0, -1, ValueError), (0, 4, ValueError), (1, b"", ValueError), (2, [BEGIN], ValueError), (6, bytes(31), ValueError),
    (6, bytes(33), ValueError), (6, bytes(48), ValueError), (7, [b""], ValueError), (8, [b""] * 3, ValueError),
    (2, [b"", BEGIN], ValueError), (2, [b"\x80", BEGIN], ValueError), (2, [b"\xb8\x01\x01\x01", BEGIN], ValueError),
    (2, ["text", BEGIN], TypeError), (4, ONES, ValueError), (4, [*ONES, [1]], ValueError), (4, [*ONES, [1, 1, 1]], ValueError),
    (4, [*ONES, [1, 1.5]], TypeError), (4, [*ONES, ["\ud800", 1]], UnicodeEncodeError), (4, [*ONES, 7], TypeError),
    (3, KEYS[:3], ValueError), (3, (24, 25, KEY, 28), ValueError), (3, (24, 24, 27, 28), ValueError), (3, (25, 24, 27, 28), ValueError),
    (3, (24, 25, 27, 2**64), ValueError), (3, (24, 25, "a", 28), TypeError), (3, (-1, 25, 27, 28), ValueError), (5, -1, ValueError),
    (5, 2**64, ValueError), (5, True, TypeError), (7, [b"", "text"], TypeError), (8, [None, b""], TypeError),
]  # fmt: skip


@pytest.mark.parametrize(("place", "wrong", "error"), FAULTS)
def test_group_with_one_fault_is_refused(place, wrong, error):
    arguments = group(3, TWO)
    arguments[place] = wrong
    assert agreed("seal_group", *arguments) is error


@compiled
def test_refused_calls_leave_no_memory_behind():
    def refuse():
        for place, wrong, _ in FAULTS:
            arguments = group(3, TWO)
            arguments[place] = wrong
            outcome(_kernels, "seal_group", *arguments)
        outcome(_kernels, "cbor_map", [(1, bytes(5000)), (2, 1.5)])
        outcome(_kernels, "er7_read", MESSAGE, MESSAGE, [(b"PID", 0, 1, 0, 0, 0)])

    refuse()
    tracemalloc.start()
    try:
        refuse()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            refuse()
        assert tracemalloc.get_traced_memory()[0] - before < 100 * 32  # less than one small block per round
    finally:
        tracemalloc.stop()


@compiled
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("wrong", [None, "text", 7, [None], [b"", "x"], (1.5,)])
def test_compiled_kernel_refuses_other_types_and_does_not_crash(name, wrong):
    count = len(inspect.signature(getattr(_pure, name)).parameters)
    assert outcome(_kernels, name, *[wrong] * count) in {TypeError, ValueError}


@both
def test_groups_sealed_in_threads_do_not_disturb_each_other(kernels):
    jobs = [group(size, TWO * 20, seed=size) for size in range(16)]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(lambda arguments: kernels.seal_group(*arguments), jobs))
    assert results == [_pure.seal_group(*arguments) for arguments in jobs]


# Rows in one piece


def cells(joined, places, bits):
    """What pack_rows packed, cut out again by its numbers."""
    rows = []
    for number in array("q", places):
        lengths, rest = [], number
        for width in reversed(bits):
            lengths.insert(0, rest & ((1 << width) - 1))
            rest >>= width
        ends = list(accumulate(lengths, initial=rest))
        rows.append([joined[start:end] for start, end in pairwise(ends)])
    return [list(column) for column in zip(*rows, strict=True)]


@for_any(
    st.lists(st.tuples(st.binary(max_size=40), st.binary(max_size=40)), min_size=1, max_size=9),
    st.tuples(st.integers(3, 9), st.integers(3, 9)),
)
def test_rows_are_cut_out_again_as_they_were_packed(rows, bits):
    columns = [list(column) for column in zip(*rows, strict=True)]
    packed = agreed("pack_rows", columns, bits)
    fits = all(len(cell) < 1 << width for column, width in zip(columns, bits, strict=True) for cell in column)
    assert (packed is not None) == fits
    if packed is not None:
        assert cells(*packed, bits) == columns
        assert packed[0] == b"".join(chain.from_iterable(rows))


def test_rows_whose_offsets_do_not_fit_are_not_packed():
    assert (
        agreed("pack_rows", [[bytes(3), bytes(1)]], [60]) is not None
    )  # the second begins at 3, and three bits are left
    assert agreed("pack_rows", [[bytes(7), bytes(1)]], [60]) is not None
    assert agreed("pack_rows", [[bytes(8), bytes(1)]], [60]) is None
    assert agreed("pack_rows", [[], []], [8, 8]) == (b"", b"")


@pytest.mark.parametrize(
    ("columns", "bits"), [([], []), ([[b""]], []), ([[b""], []], [8, 8]), ([[b""]], [0]), ([[b""]], [63]), ([[b""]] * 2, [31, 32])]
)  # fmt: skip
def test_columns_that_cannot_be_packed_are_refused(columns, bits):
    assert agreed("pack_rows", columns, bits) is ValueError


# A header's template


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|W1|P|2.5\rPID|1\r", (b"MSH|^~\\&|A|B|C|D|||ADT^A01||P|2.5", b"W1")),
        (b"MSH|^~\\&|A|B|C|D|2026||ADT^A01||\r", (b"MSH|^~\\&|A|B|C|D|||ADT^A01||", b"")),
        (b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|W1\r", None),  # nothing follows
        (b"MSH|^~\\&|A|B|C|D|2026||ADT^A01|W1|P", None),  # no CR
        (b"MSH|^~\\&|A|B|C|D|20\n26||ADT^A01|W1|P\r", None),
        (b"MSH|^~\\#|A|B|C|D|2026||ADT^A01|W1|P\r", None),
        (b"MSH", None), (b"", None), (b"\r", None),
    ],
)  # fmt: skip
def test_template_is_the_header_without_time_and_control_id(message, expected):
    assert agreed("er7_template", message, 1024) == expected


@for_any(
    st.lists(st.sampled_from([b"|", b"|", b"a", b"^", b"\r", b"\n", b"\x0b", b"\x1c", "م".encode()]), max_size=40).map(
        b"".join
    ),
    st.integers(-3, 60),
)
def test_templates_of_random_headers_agree(tail, limit):
    agreed("er7_template", b"MSH|^~\\&|" + tail, limit)
    agreed("er7_template", tail, limit)


# JSON
class Digits:
    """What stands for a number in these tests."""

    def __init__(self, digits):
        self.digits = digits


numbers = st.builds(Digits, st.from_regex(r"-?[0-9]{1,9}(\.[0-9]{1,9})?", fullmatch=True))
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | numbers,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=6), inner, max_size=5),
    max_leaves=30,
)


@for_any(json_values)
@example({'"\\\n\r\t\b\f\x00\x1f\x7f/': ["نص", "\U0001f600", {}, []]})
def test_json_is_what_the_standard_library_writes(value):
    expected = json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), default=lambda each: f"\ue000{each.digits}\ue000"
    )
    if "\ue000" not in str(value):
        expected = expected.replace('"\ue000', "").replace('\ue000"', "")
        assert agreed("json_text", value, Digits) == expected.encode()


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ({1: 2}, TypeError), ([1.5], TypeError), (("a",), TypeError), ({"a": {1}}, TypeError), ("\ud800", UnicodeEncodeError), ({"\udfff": 1}, UnicodeEncodeError),
        (Digits("٥"), TypeError), (Digits(5), TypeError), (Digits("\ud800"), TypeError),
    ],
)  # fmt: skip
def test_what_is_no_json_is_refused(value, error):
    assert agreed("json_text", value, Digits) is error


@pytest.mark.parametrize(("deep", "refused"), [(200, False), (201, True), (50_000, True)])
def test_json_that_is_too_deep_is_refused(deep, refused):
    value = "x"
    for at in range(deep):
        value = [value] if at % 2 else {"n": value}
    assert (agreed("json_text", value, Digits) is ValueError) is refused
    while isinstance(value, list | dict):  # or the interpreter frees it by recursion
        value = value[0] if isinstance(value, list) else value["n"]


def test_long_text_that_is_all_escapes_fits():
    assert agreed("json_text", "\x01" * 100_000, Digits) == b'"' + b"\\u0001" * 100_000 + b'"'
