from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file

from cellfeat.autoencoder.network import Autoencoder
from cellfeat.autoencoder.weights import load_autoencoder, save_autoencoder
from cellfeat.core.files import read_json, write_json
from cellfeat.errors import CellfeatError


@pytest.fixture
def weights(tmp_path):
    return save_autoencoder(tmp_path / "autoencoder.safetensors", Autoencoder(), {"config": {"beta": 5.0}})


def test_round_trip(tmp_path):
    network = Autoencoder().to(memory_format=torch.channels_last)
    path = save_autoencoder(tmp_path / "autoencoder.safetensors", network, {"config": {"beta": 5.0}})
    loaded, card = load_autoencoder(path)
    assert card["parameters"] == 3_969_141
    assert card["config"] == {"beta": 5.0}
    assert not loaded.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_all_differing_parameters_are_listed_in_one_line(weights):
    tensors = load_file(weights)
    del tensors["encoder.0.bias"]
    tensors["encoder.15.weight"] = torch.zeros(7, 60, 1, 1)
    tensors["head.weight"] = torch.zeros(3)
    save_file(tensors, weights)
    with pytest.raises(CellfeatError) as error:
        load_autoencoder(weights)
    message = str(error.value)
    assert "\n" not in message
    assert "missing encoder.0.bias" in message
    assert "unknown head.weight" in message
    assert "encoder.15.weight is (7, 60, 1, 1), expected (50, 60, 1, 1)" in message


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"card_version": 2}, "card version 2 is newer"),
        ({"architecture": "VAE"}, "architecture 'VAE', expected 'AE-CFE'"),
        ({"domains": [["a"]]}, "is not as cellfeat wrote it .a domain is no text"),
        ({"card_version": "x"}, "not the card of an autoencoder"),
        ({"weights_sha256": "0" * 64}, "not the weights that autoencoder.json describes"),
    ],
)
def test_cards_that_do_not_fit_are_refused(weights, change, message):
    card = weights.with_suffix(".json")
    write_json(card, read_json(card) | change)
    with pytest.raises(CellfeatError, match=message):
        load_autoencoder(weights)


def test_damaged_and_missing_files_are_named(weights):
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CellfeatError, match=r"autoencoder.safetensors: not a readable safetensors file"):
        load_autoencoder(weights)
    weights.unlink()
    with pytest.raises(CellfeatError, match=r"autoencoder.safetensors: no such file"):
        load_autoencoder(weights)
    weights.with_suffix(".json").unlink()
    with pytest.raises(CellfeatError, match=r"autoencoder.json: no such file"):
        load_autoencoder(weights)
