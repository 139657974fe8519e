"""The weights of a trained autoencoder as they come with the package: parameters in half precision, and their card.

    python benchmarks/pack_autoencoder.py AUTOENCODER.safetensors wbc_aecfe.safetensors

Statistics of features stay in full precision: they are few, and differences are taken from them.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from cellfeat.autoencoder.weights import load_autoencoder
from cellfeat.core.files import sha256_file, write_json
from cellfeat.core.tensors import save_tensors


def main() -> None:
    """Write both files and print the digest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("trained", type=Path)
    parser.add_argument("packed", type=Path)
    given = parser.parse_args()
    network, card = load_autoencoder(given.trained)
    parameters = {name for name, _ in network.named_parameters()}
    tensors = {name: value.half() if name in parameters else value for name, value in network.state_dict().items()}
    save_tensors(given.packed, tensors)
    digest = sha256_file(given.packed)
    write_json(given.packed.with_suffix(".json"), card | {"weights_sha256": digest})
    print(f"{digest}  {given.packed}, {given.packed.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
