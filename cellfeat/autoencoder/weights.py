"""Trained weights on disk: a safetensors file and, beside it, a JSON card that says what made them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from cellfeat.autoencoder.network import Autoencoder
from cellfeat.autoencoder.pooled_network import build_network
from cellfeat.core.files import as_written, read_json, sha256_file, write_json
from cellfeat.core.tensors import load_tensors, save_tensors
from cellfeat.errors import CellfeatError, Damaged, NewerFormat

ARCHITECTURE = "AE-CFE"
CARD_VERSION = 1


def save_autoencoder(path: str | Path, network: Autoencoder, card: dict[str, Any]) -> Path:
    """Write the weights (float32) to `path` (.safetensors) and the card beside it (.json).

    The card is written last, so that weights with a card are whole. To `card` are added: card_version, architecture,
    parameters (their count) and weights_sha256.
    """
    path = Path(path)
    tensors = {name: tensor.float() for name, tensor in network.state_dict().items()}
    save_tensors(path, tensors)
    header = {
        "card_version": CARD_VERSION,
        "architecture": ARCHITECTURE,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "weights_sha256": sha256_file(path),
    }
    write_json(path.with_suffix(".json"), header | card)
    return path


def load_autoencoder(path: str | Path) -> tuple[Autoencoder, dict[str, Any]]:
    """Read weights and card written by `save_autoencoder`.

    Returns:
        The network in evaluation mode, on the CPU in float32, and the card.

    Raises:
        CellfeatError: A file is missing or damaged, the card is of a newer version or of other weights, or the
            parameters are not those of the card's network; the message lists all that differ.
    """
    path = Path(path)
    card = read_card(path)
    tensors = load_tensors(path, "train the autoencoder first", "restore it or train again")
    with as_written(path.with_suffix(".json"), "train again"):
        config = card.get("config", {})
        domains = card.get("domains", ())
        if not all(isinstance(name, str) for name in domains):
            raise TypeError("a domain is no text")
        network = build_network(config.get("network", "paper"), config.get("scaling", "cell"), len(domains))
    _check_parameters(path, tensors, network.state_dict())
    if card.get("weights_sha256") != sha256_file(path):
        card_name = path.with_suffix(".json").name
        raise Damaged(f"{path}: not the weights that {card_name} describes", "restore both files together")
    network.load_state_dict(tensors)
    return network.eval(), card


def are_whole(path: Path) -> bool:
    """Whether weights and their card are there, and the weights are those that the card describes."""
    with suppress(CellfeatError, OSError):
        return read_card(path).get("weights_sha256") == sha256_file(path)
    return False


def read_card(path: str | Path) -> dict[str, Any]:
    """The card beside the weights `path`.

    Raises:
        CellfeatError: It is missing, damaged, of a newer version or not the card of an AE-CFE network.
    """
    card_path = Path(path).with_suffix(".json")
    card = read_json(card_path)
    if not isinstance(card, dict) or not isinstance(card.get("card_version"), int):
        raise CellfeatError(
            f"{card_path}: not the card of an autoencoder; name the .safetensors file that train-ae wrote"
        )
    if card["card_version"] > CARD_VERSION:
        newer = f"{card_path}: card version {card['card_version']} is newer than this cellfeat reads ({CARD_VERSION})"
        raise NewerFormat(newer, "update cellfeat")
    if card.get("architecture") != ARCHITECTURE:
        raise CellfeatError(f"{card_path}: architecture {card.get('architecture')!r}, expected {ARCHITECTURE!r}")
    return card


def _check_parameters(path: Path, found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    problems = [f"missing {name}" for name in expected.keys() - found.keys()]
    problems += [f"unknown {name}" for name in found.keys() - expected.keys()]
    problems += [
        f"{name} is {tuple(found[name].shape)}, expected {tuple(expected[name].shape)}"
        for name in expected.keys() & found.keys()
        if found[name].shape != expected[name].shape
    ]
    if problems:
        raise CellfeatError(f"{path}: not an {ARCHITECTURE} network: {'; '.join(sorted(problems))}")
