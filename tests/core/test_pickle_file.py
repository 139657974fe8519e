"""Files of pickles read through the child: what is read, and what ends in one line."""

import gzip
import json
import os
import pickle
import struct
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch

from cellfeat.core import pickle_file
from cellfeat.core.pickle_file import read_pickle
from cellfeat.core.torch_stand_ins import torch_names
from cellfeat.errors import CellfeatError, Damaged


@pytest.fixture
def checkpoint():
    return {
        "model": OrderedDict(w=torch.arange(6.0).reshape(2, 3).T, half=torch.tensor([1.5, -3e38]).bfloat16()),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "part": torch.arange(10)[3:9:2],
        "none": torch.zeros(0, 3),
        "size": torch.Size([1, 2]),
        "iteration": 3,
    }


@pytest.mark.parametrize("new", [True, False])
def test_checkpoints_of_torch_come_as_arrays(tmp_path, checkpoint, new):
    torch.save(checkpoint, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    found = read_pickle(tmp_path / "a.pth")
    assert found.keys() == checkpoint.keys()
    for name, tensor in (checkpoint["model"] | checkpoint).items():
        if isinstance(tensor, torch.Tensor):
            array = (found["model"] | found)[name]
            np.testing.assert_array_equal(array, tensor.detach().float() if name == "half" else tensor.detach())
            assert array.dtype == (np.float32 if name == "half" else tensor.detach().numpy().dtype)
    assert (found["size"], found["iteration"]) == ((1, 2), 3)


def test_numpy_files_of_objects_and_of_numbers(tmp_path):
    content = {"masks": np.ones((3, 4), np.uint16), "outlines": [np.zeros((2, 2))], "filename": "a.png"}
    np.save(tmp_path / "a_seg.npy", content)
    assert read_pickle(tmp_path / "a_seg.npy")["filename"] == "a.png"
    assert read_pickle(tmp_path / "a_seg.npy")["masks"].shape == (3, 4)
    np.save(tmp_path / "b.npy", np.asfortranarray(np.arange(6).reshape(2, 3)))
    assert read_pickle(tmp_path / "b.npy").tolist() == [[0, 1, 2], [3, 4, 5]]


def test_arrays_can_be_written_to_and_are_shared_as_in_the_file(tmp_path):
    array = np.zeros(3)
    (tmp_path / "a").write_bytes(pickle.dumps([array, {"same": array}]))
    first, second = read_pickle(tmp_path / "a")
    first[0] = 1
    assert second["same"][0] == 1


def numpy_file(header, content=b"N."):
    return b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "cut short"),
        (gzip.compress(pickle.dumps(list(range(1000))), mtime=0)[:-20], "ended before|cut short|not a file"),
        (gzip.compress(b"C" + bytes(10), mtime=0) + b"x", "opcode|cut short"),
        (numpy_file(b"__import__('os').system('touch harmed')\n"), "a header of another kind"),
        (numpy_file(b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }\n"), "than the file"),
        (numpy_file(b"{'descr': '<V8', 'fortran_order': False, 'shape': (1,), }\n"), "dtype 'V8'"),
        (b"\x93NUMPY\x09\0", "unknown version"),
        (b"PK\3\4" + bytes(60), "not a file of arrays"),
    ],
)
def test_damaged_files_are_one_line(tmp_path, content, words):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(CellfeatError, match=words) as error:
        read_pickle(tmp_path / "a")
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'a'}: ")


def test_what_is_no_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, words in (("pipe", "is no file"), ("nothing", "no such file")):
        with pytest.raises(CellfeatError, match=words):
            read_pickle(tmp_path / name)


def test_inflating_files_end_at_the_limit(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(gzip.compress(pickle.dumps(bytes(10_000_000))))
    monkeypatch.setattr(pickle_file, "available_memory", lambda: 2_000_000)
    with pytest.raises(CellfeatError, match="holds more than the memory takes"):
        read_pickle(tmp_path / "a")


def test_a_child_that_is_killed_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(pickle.dumps([1]))
    start = pickle_file.start_child

    def stillborn(module):
        child = start(module)
        child.kill()
        return child

    monkeypatch.setattr(pickle_file, "start_child", stillborn)
    with pytest.raises(Damaged, match="the process that read it ended by signal 9"):
        read_pickle(tmp_path / "a")


def changed(path, target, change):
    """A copy of a checkpoint's archive with other bytes of its parts."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(target, "w") as copy:
        for name in archive.namelist():
            copy.writestr(name, change(name, archive.read(name)))


@pytest.mark.parametrize(
    ("part", "old", "new", "words"),
    [
        ("data.pkl", b"K\x06", b"K\x07", "a storage has more or fewer bytes than it should"),  # count of the storage
        ("data.pkl", b"K\x02K\x03\x86", b"K\x09K\x03\x86", "a tensor that leaves its storage"),  # shape
        ("data.pkl", b"K\x03K\x01\x86", b"K\x09K\x01\x86", "a tensor that leaves its storage"),  # strides
        ("data.pkl", b"FloatStorage", b"DarkStorage_", "names torch.DarkStorage_"),
        ("byteorder", b"little", b"big", "the byte order of another machine"),
        ("data/0", b"\0\0\0\0", b"", "a storage has more or fewer bytes than it should"),
    ],
)
def test_tensors_lie_within_their_storages(tmp_path, part, old, new, words):
    torch.save({"w": torch.arange(6.0).reshape(2, 3)}, tmp_path / "a.pth")
    touched = []

    def change(name, content):
        if name.endswith(part) and old in content:
            touched.append(name)
            return content.replace(old, new, 1)
        return content

    changed(tmp_path / "a.pth", tmp_path / "b.pth", change)
    assert touched
    with pytest.raises(CellfeatError, match=words):
        read_pickle(tmp_path / "b.pth")


def test_a_tensor_of_one_number_cannot_fill_the_memory(tmp_path):
    torch.save({"w": torch.zeros(1).expand(1 << 40)}, tmp_path / "a.pth")
    with pytest.raises(CellfeatError, match="holds more than the memory takes"):
        read_pickle(tmp_path / "a.pth")


def test_the_parent_checks_what_it_is_sent(tmp_path, monkeypatch):
    """Even a child that was taken over cannot make it take memory or build forged arrays."""
    (tmp_path / "a").write_bytes(b"N.")
    for said, words in (
        ({"array": ["<f8", [1 << 40], False]}, "more than the memory takes"),
        ({"array": ["|O8", [1], False]}, "dtype 'O8'"),
        ({"array": ["<f8", [-1], False]}, "a shape that is none"),
    ):
        line = json.dumps(said)
        code = f"import sys; sys.stdin.read(); print({line!r})"

        def start(_, code=code):
            import subprocess
            import sys

            return subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

        monkeypatch.setattr(pickle_file, "start_child", start)
        with pytest.raises(CellfeatError, match=words):
            read_pickle(tmp_path / "a")


def test_names_of_torch_make_nothing_of_torch():
    for name in torch_names(lambda form, data: 0).values():
        assert name.make is None or name.make.__module__.startswith("cellfeat.core.")
