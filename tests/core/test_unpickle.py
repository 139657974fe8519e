"""Pickles run on stand-ins: what is sound comes through, what does more is refused, and nothing crashes."""

import io
import os
import pickle
import pickletools
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest

from cellfeat.core import unpickle
from cellfeat.core.array_stand_ins import as_array
from cellfeat.core.pickle_file import interpret
from cellfeat.core.pickle_wire import decode
from cellfeat.errors import CellfeatError

CORPUS = sorted((Path(__file__).parent / "data/pickles").glob("*"))
LIMIT = 1 << 26  # bytes that a file may make
DTYPE = b"cnumpy\ndtype\n(S'%b'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"
EMPTY = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"


class Collector:
    """Keeps arrays that the child would send."""

    def __init__(self):
        self.arrays = []

    def array(self, form, data):
        self.arrays.append(as_array(form, data))
        return len(self.arrays) - 1


def load(content, limit=LIMIT):
    sender = Collector()
    return decode(interpret(io.BytesIO(content), len(content), limit, sender), sender.arrays)


def outcome(content):
    """Whether a pickle is a value, refused in one line, or refused in more."""
    try:
        load(content)
    except CellfeatError as error:
        return "refused" if "\n" not in str(error) else "lines"
    return "value"


def array(state, dtype=b"f4"):
    """A pickle of an array whose state is (1, shape, dtype, fortran, data) with other ends."""
    return EMPTY + b"(I1\n" + state.replace(b"DTYPE", DTYPE % dtype) + b"tb."


@pytest.mark.parametrize("protocol", range(6))
def test_arrays_in_plain_containers_come_through(protocol):
    content = {
        "a": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "swapped": np.arange(3, dtype=">i4"),
        "empty": np.zeros((0, 3), np.float32),
        "texts": np.array(["x", "µ"]),
        "objects": np.array([[{"a": 1}, None], [[2], "3"]], object),
    }
    found = load(pickle.dumps(content, protocol))
    assert found.pop("objects") == content.pop("objects").tolist()
    for name, value in content.items():
        np.testing.assert_array_equal(found[name], value)
        assert found[name].dtype == value.dtype.newbyteorder("=")


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_through(protocol):
    values = [1, -(10**30), 2.5, "text\n\ud800", b"\0\xff", bytearray(b"x"), b"", None, True, (1, (2,)), {3, "4"}, 1j]
    values += [frozenset({5}), OrderedDict(a=[]), {(1, "k"): 2, b"x": 3}, np.float32(2), np.bool_(True), np.str_("")]
    found = load(pickle.dumps(values, protocol))
    assert found == values
    assert [type(value) for value in found[-3:]] == [np.float32, np.bool_, np.str_]


def test_python_2_writes_arrays_as_texts():
    assert load(array(b"(I2\ntDTYPEI00\nS'\\x00\\x00\\x80?\\x00\\x00\\x00@'\n")).tolist() == [1, 2]


class Harm:
    def __reduce__(self):
        return os.system, ("touch harmed",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps(Harm()), "names posix.system, which a file of arrays does not need; not loaded"),
        (b"cbuiltins\neval\n(S'1'\ntR.", "names builtins.eval"),
        (b"ca\x1b[2J\nb\nr\n.", r"names a\?\[2J\.b"),
        (b"cnumpy\nndarray\n((I1000000\nI1000000\nttR.", "a call of numpy.ndarray"),
        (b"c_codecs\nencode\n(Vx\nVidna\ntR.", "a text's coding"),
        (b"\x80\x06N.", "pickle protocol 6; write it with protocol 4"),
        (b"\x80\x05\x97.", "out-of-band buffers of protocol 5"),
        (b"(S'storage'\ntQ.", "an object lies outside of the file"),
        (b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".", "expected 1099511627776 bytes"),
        (b"(S'x'\ni__main__\nx\n.", "opcode INST"),
        (b"\xff", "opcode b'"),
        (b"N", "cut short"),
        (b".", "its stack is empty"),
        (b"(.", "its stack is empty"),
        (b"N(I1\ntb.", "a state for something that has none"),
        (b"}q\x00h\x00Ns.", "a key is not plain"),
        (b"\x8f(I1\n" + 50_000 * b"\x85" + b"\x90.", "a key is not plain"),
        (b"}I1\n" + 50_000 * b"\x85" + b"Ns.", "a key is not plain"),  # its hash overflows the stack
        (b"}L2305843009213693951L\nNs.", "a key is too large a number"),  # 2^61 - 1, whose hash is 0
        (b"]" + 100 * b"]" + 100 * b"a" + b".", "nests its objects deeper than 64"),
        (b"]q\x00h\x00a.", "nests its objects deeper than 64"),  # a list that holds itself
        (EMPTY + b".", "an array without content"),
        (DTYPE % b"f4" + b".", "an object that is no value"),
        (b"cnumpy\nndarray\n.", "an object that is no value"),
    ],
)
def test_what_does_more_is_refused(tmp_path, monkeypatch, content, words):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CellfeatError, match=words) as error:
        load(content)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (array(b"(I9\ntDTYPEI00\n(lp1\nNa", b"O8"), "an object array of another length than its shape"),
        (array(b"(I2\ntDTYPEI00\nS'1234'\n"), "an array without its bytes"),
        (array(b"(I1000000000\nI1000000000\ntDTYPEI00\nS'1234'\n"), "an array without its bytes"),
        (array(b"(I-1\nI-1\ntDTYPEI00\nS'1234'\n"), "a shape that is none"),
        (array(b"(I1\ntDTYPEI00\nS'1234'\n", b"V4"), "holds an array of dtype 'V4'"),
        (array(b"(I1\ntDTYPEI00\nS'12345678'\n", b"M8"), "holds an array of dtype 'M8'"),
        (array(b"(I1\ntDTYPEI00\nS'1'\n", b"b1"), "truth values other than 0 and 1"),
        (array(b"(I1\ntDTYPEI00\nS'\\xff\\xff\\xff\\xff'\n", b"U1"), "a text with impossible characters"),
        (array(b"(I1\ntDTYPEI00\nS'1234'\n")[:-1] + b"(I1\n(I0\nt" + DTYPE % b"f4" + b"I00\nNtb.", "filled twice"),
        (b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % b"U1000000" + b"tR.", "a number without dtype"),
        (b"cnumpy.core.multiarray\nscalar\n(" + DTYPE % b"U1000000" + b"S'1234'\ntR.", "more or fewer bytes"),
        (DTYPE[:-1] % b"f4" + b"0(I3\nS'|'\nN(S'f0'\ntNI4\nI1\nI0\ntb.", "its stack|a dtype of fields|state"),
    ],
)
def test_forged_arrays_are_refused(content, words):
    with pytest.raises(CellfeatError, match=words):
        load(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"Nr\xff\xff\xff\x7f.", None),  # a memo of billions: the implementation in C takes 32 GiB
        (200_000 * b"N", "holds more objects"),
        (b"".join([b"]", *(b"q%c](" % k + 40 * (b"h%c" % k) + b"e" for k in range(10)), b"."]), "holds more objects"),
        (b"]q\x00(" + b"V" + 100_000 * b"x" + b"\nq\x01" + 1000 * b"h\x01" + b"e.", "holds more than the memory takes"),
    ],
)
def test_small_files_stay_small(monkeypatch, content, words):
    monkeypatch.setattr(unpickle, "MAX_OBJECTS", 100_000)
    if words is None:
        assert load(content) is None
    else:
        with pytest.raises(CellfeatError, match=words):
            load(content)


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.name)
def test_files_that_once_did_harm(path):
    """Each ends in a value or in one line."""
    assert outcome(path.read_bytes()) in ("value", "refused")


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_mutated_pickles_end_in_values_or_one_line():
    rng = random.Random(0)
    seeds = [path.read_bytes() for path in CORPUS]
    opcodes = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
    outcomes = set()
    for _ in range(3000):
        content = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            position = rng.randrange(len(content) + 1)
            kind = rng.randrange(4)
            if kind == 0:
                content[position : position + 1] = bytes([rng.randrange(256)])
            elif kind == 1:
                content[position:position] = rng.choice(opcodes)
            elif kind == 2:
                del content[position : position + rng.randint(1, 20)]
            else:
                start = rng.randrange(len(content) + 1)
                content[position:position] = content[start : start + rng.randint(1, 60)]
        outcomes.add(outcome(bytes(content)))
    assert outcomes == {"value", "refused"}
