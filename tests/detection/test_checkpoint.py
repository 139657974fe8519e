import pickle
import zipfile
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from cellfeat.core.files import sha256_file
from cellfeat.core.tensors import save_checkpoint
from cellfeat.detection.checkpoint import load_weights, read_state, resolve_weights
from cellfeat.detection.config import config_dir, load_config
from cellfeat.detection.torchvision_engine.model import MaskRCNN
from cellfeat.detection.torchvision_engine.names import to_detectron2, to_torchvision
from cellfeat.errors import CellfeatError

SHAPES = {"backbone.a.weight": (2, 3), "roi_heads.b.bias": (4,)}


@pytest.fixture
def state():
    return {name: torch.randn(shape) for name, shape in SHAPES.items()}


def write(path, state, wrapped):
    if path.suffix == ".safetensors":
        save_file(state, path)
    elif path.suffix == ".pkl":
        arrays = {name: value.numpy() for name, value in state.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "zoo"} if wrapped else arrays, protocol=2))
    else:
        torch.save({"model": state, "iteration": 7} if wrapped else state, path)


@pytest.mark.parametrize("wrapped", [True, False])
@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors"])
def test_every_format_reads_back(tmp_path, state, suffix, wrapped):
    path = tmp_path / f"w{suffix}"
    write(path, state, wrapped)
    read = load_weights(str(path), SHAPES)
    assert read.keys() == state.keys()
    for name, value in state.items():
        torch.testing.assert_close(read[name], value)


class Evil:
    def __reduce__(self):
        return (print, ("this must not be printed",))


@pytest.mark.parametrize("suffix", [".pkl", ".pth"])
def test_a_pickle_that_would_run_code_is_refused(tmp_path, capsys, suffix):
    path = tmp_path / f"evil{suffix}"
    if suffix == ".pkl":
        path.write_bytes(pickle.dumps({"model": Evil()}))
    else:
        torch.save({"model": Evil()}, path)
    with pytest.raises(CellfeatError, match="evil") as error:
        read_state(path)
    assert "print" in str(error.value)
    assert "must not" not in capsys.readouterr().out


def test_an_ordered_dict_of_scalars_and_arrays_is_fine(tmp_path):
    path = tmp_path / "zoo.pkl"
    path.write_bytes(pickle.dumps(OrderedDict(w=np.ones(2, np.float32), n=np.float64(3)), protocol=2))
    assert read_state(path).keys() == {"w"}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("roi_heads.b.bias"), "1 missing .roi_heads.b.bias"),
        (lambda s: s.update({"roi_heads.c": torch.zeros(1)}), "1 unexpected .roi_heads.c"),
        (
            lambda s: s.update({"roi_heads.b.bias": torch.zeros(5)}),
            r"1 of another shape .roi_heads.b.bias \(5,\) for \(4,\)",
        ),
    ],
)
def test_another_architecture_is_refused_with_what_differs(tmp_path, state, change, words):
    change(state)
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(CellfeatError, match=words):
        load_weights(str(tmp_path / "w.pth"), SHAPES)


def test_a_head_that_the_config_calls_new_starts_afresh(tmp_path, state):
    state["roi_heads.b.bias"] = torch.zeros(81)
    torch.save(state, tmp_path / "coco.pth")
    assert load_weights(str(tmp_path / "coco.pth"), SHAPES, new_heads=["roi_heads.b"]).keys() == {"backbone.a.weight"}
    with pytest.raises(CellfeatError, match=r"NEW_HEADS roi_heads\.mask"):
        load_weights(str(tmp_path / "coco.pth"), SHAPES, new_heads=["roi_heads.mask"])


def test_sha256_is_checked(tmp_path, state):
    path = tmp_path / "w.pth"
    torch.save(state, path)
    load_weights(str(path), SHAPES, sha256_file(path))
    with pytest.raises(CellfeatError, match=r"MODEL\.WEIGHTS_SHA256"):
        load_weights(str(path), SHAPES, "0" * 64)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
@pytest.mark.parametrize("suffix", [".pth", ".pkl", ".safetensors", ".txt"])
def test_a_damaged_or_foreign_file_is_one_line(tmp_path, suffix, content):
    path = tmp_path / f"w{suffix}"
    path.write_bytes(content)
    with pytest.raises(CellfeatError, match="w") as error:
        read_state(path)
    assert "\n" not in str(error.value)


def test_zoo_names_are_looked_for_in_detectron2s_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("FVCORE_CACHE", str(tmp_path))
    with pytest.raises(CellfeatError, match=r"R-101\.pkl"):
        resolve_weights("detectron2://MSRA/R-101.pkl")
    (tmp_path / "detectron2" / "MSRA").mkdir(parents=True)
    (tmp_path / "detectron2" / "MSRA" / "R-101.pkl").write_bytes(b"x")
    assert resolve_weights("detectron2://MSRA/R-101.pkl").read_bytes() == b"x"


@pytest.fixture(scope="module")
def model():
    return MaskRCNN(load_config(config_dir() / "wbc_mask_rcnn_R_50_FPN.yaml"))


def caffe2_names(state):
    """Detectron2's backbone names in the way in which the ImageNet files of the model zoo have them."""
    renamed = {}
    for name, value in state.items():
        name = name.removeprefix("backbone.bottom_up.")
        if name.startswith("backbone.") or not name.startswith(("stem", "res")) or "running" in name:
            continue
        name = name.replace("stem.conv1.norm", "res_conv1_bn").replace("stem.conv1", "conv1")
        name = name.replace(".norm", "_bn").replace("_bn.weight", "_bn_s").replace("_bn.bias", "_bn_b")
        name = name.replace(".weight", "_w").replace(".shortcut", ".branch1")
        for i, letter in enumerate("abc", start=1):
            name = name.replace(f".conv{i}", f".branch2{letter}")
        renamed[name.replace(".", "_")] = value.numpy() + 1
    return renamed


def test_an_imagenet_backbone_fills_the_backbone_and_nothing_else(tmp_path, model):
    ours = to_detectron2(model.state_dict())
    path = tmp_path / "R-50.pkl"
    path.write_bytes(pickle.dumps({"model": caffe2_names(ours) | {"fc1000_w": np.zeros((1000, 2048), np.float32)}}, 2))
    shapes = {name: tuple(value.shape) for name, value in ours.items()}
    read = load_weights(str(path), shapes)
    assert set(read) == {name for name in shapes if name.startswith("backbone.bottom_up.")}
    name = "backbone.bottom_up.res3.0.shortcut.weight"
    torch.testing.assert_close(read[name], ours[name] + 1)
    assert (read["backbone.bottom_up.res2.0.conv1.norm.running_var"] == 1).all()


def test_names_go_both_ways(model):
    state = model.state_dict()
    assert to_torchvision(to_detectron2(state)).keys() == state.keys()
    assert not any(name.startswith(("rpn.", "backbone.body", "backbone.fpn.")) for name in to_detectron2(state))


def test_a_checkpoint_is_whole_or_absent(tmp_path):
    with pytest.raises(Exception, match="pickle"):
        save_checkpoint(tmp_path / "w.pth", {"model": lambda: 0})
    assert list(tmp_path.iterdir()) == []


def test_a_checkpoint_that_inflates_is_refused(tmp_path):
    torch.save({"model": {"a": torch.zeros(1_000_000)}}, tmp_path / "sound.pth")
    assert read_state(tmp_path / "sound.pth")["a"].shape == (1_000_000,)
    with zipfile.ZipFile(tmp_path / "sound.pth") as sound, zipfile.ZipFile(tmp_path / "bomb.pth", "w", 8) as bomb:
        for name in sound.namelist():
            bomb.writestr(name, sound.read(name))
    with pytest.raises(CellfeatError, match=r"bomb\.pth: its parts are compressed"):
        read_state(tmp_path / "bomb.pth")
