from __future__ import annotations

import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from cellfeat.core.files import sha256_file
from cellfeat.errors import CellfeatError
from cellfeat.methods.augmentation import Fog, domain_adaptation, transfer_learning
from cellfeat.methods.backbones import Resize, load_weights, read_weights


class Trap:
    """Unpickled, it would run code."""

    def __reduce__(self):
        return print, ("run",)


def test_weights_are_read_from_either_format(tmp_path):
    tensors = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.zeros(2)}
    save_file(tensors, tmp_path / "a.safetensors")
    torch.save(tensors, tmp_path / "a.pth")
    for name in ("a.safetensors", "a.pth"):
        path = tmp_path / name
        read = read_weights(path, sha256_file(path)[:8])
        assert all(torch.equal(read[key], tensors[key]) for key in tensors)


def test_other_files_are_refused(tmp_path, capsys):
    path = tmp_path / "a.pth"
    with pytest.raises(CellfeatError, match=r"a.pth: no such file; give the path of local weights"):
        read_weights(path)
    torch.save({"a": Trap()}, path)
    with pytest.raises(CellfeatError, match=r"a.pth: names \w+.print, which a file of arrays does not need"):
        read_weights(path)
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(CellfeatError, match=r"a.pth: names \w+.print, which a file of arrays does not need"):
        read_weights(path)
    assert capsys.readouterr().out == ""
    with pytest.raises(CellfeatError, match=r"a.pth: its sha256 is [0-9a-f]{64}, not 0123456789; download it again"):
        read_weights(path, "0123456789")


def test_what_differs_from_the_network_is_named():
    network = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 4))
    weights = {
        "0.weight": torch.zeros(2, 3),
        "0.bias": torch.zeros(3),
        "1.weight": torch.zeros(9, 2),
        "2.x": torch.ones(1),
    }
    with pytest.raises(
        CellfeatError,
        match=r"a.pth: not the weights of this network: 0.bias is \(3,\), not \(2,\); missing 1.bias; unknown 2.x",
    ):
        load_weights(network, "a.pth", weights, ignore="1.w")
    weights = {"0.weight": torch.ones(2, 3), "0.bias": torch.ones(2), "1.weight": torch.zeros(9, 2)}
    load_weights(network, "a.pth", weights, ignore="1.")
    assert network[0].weight.eq(1).all()


@pytest.mark.parametrize("augment", [domain_adaptation(32), transfer_learning(), Fog()])
def test_augmentations_change_an_image_and_keep_its_kind(augment):
    torch.manual_seed(0)
    image = torch.randint(0, 200, (3, 32, 32), dtype=torch.uint8)
    changed = [augment(image) for _ in range(8)]
    assert all(one.shape == image.shape and one.dtype == torch.uint8 for one in changed)
    assert sum(torch.equal(one, image) for one in changed) <= 1


def test_fog_whitens():
    torch.manual_seed(0)
    image = torch.full((3, 32, 32), 100, dtype=torch.uint8)
    fogged = Fog(thickness=0.5)(image)
    assert (fogged >= image).all()
    assert fogged.max() <= 100 + 155 * 0.5 + 1
    assert (fogged[0] == fogged[1]).all()


def test_resizing_keeps_a_plain_image_plain():
    assert Resize(20)(torch.full((1, 3, 32, 32), 0.25)).sub(0.25).abs().max() < 1e-6
