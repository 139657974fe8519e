"""Speed of AE-CFE on this machine, each figure beside that of the plain way of doing the same.

Training: cells/s of `train_autoencoder` against the plainest PyTorch loop of the same network in fp32, with the SSIM of
torchmetrics. Embedding: the encoder alone against sending every cell through both decoders too. Features and crops are
random. Leave the machine to it: threads that wait for one another suffer most from company.

    python benchmarks/autoencoder.py --batch 48 --steps 3 --threads 2
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch
from torchmetrics.functional.image import structural_similarity_index_measure

from cellfeat.autoencoder import Autoencoder, AutoencoderConfig, domain_alignment_loss, scale_features
from cellfeat.autoencoder import train_autoencoder as train
from cellfeat.autoencoder.doubling import Doubling
from cellfeat.store import CellRow, ImageResult, Store, StoreWriter

DOMAINS = ("first", "second")


def random_store(path: Path, cells: int) -> Store:
    """Write a store of `cells` random cells, dealt to two domains in turn."""
    random = np.random.default_rng(0)
    with StoreWriter(path, (256, 14, 14), 128, {"made_by": "benchmarks/autoencoder.py"}) as writer:
        for k in range(cells):
            cell = CellRow(
                feature=random.standard_normal((256, 14, 14)).astype(np.float16),
                crop=random.integers(0, 256, (128, 128, 3), dtype=np.uint8),
                mask=np.ones((128, 128), np.uint8),
                box=np.array([0, 0, 64, 64], np.float32),
                score=0.9,
                label="",
            )
            domain = DOMAINS[k % 2]
            writer.add(ImageResult(f"{domain}/{k:05d}.png", domain, "", width=64, height=64, cells=[cell]))
    return Store(path)


def plain_loop(store: Store, batch: int, steps: int) -> float:
    """Cells/s of the loop that one would write first: fp32, contiguous tensors, everything decoded."""
    network = Autoencoder()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    domain = torch.from_numpy((store.table()["domain"] == DOMAINS[1]).to_numpy(np.int64))

    def step(k: int) -> None:
        rows = slice(k * batch, (k + 1) * batch)
        h = scale_features(torch.from_numpy(store.read("features", rows)))
        crops = torch.from_numpy(store.read("crops", rows)).permute(0, 3, 1, 2).float() / 255
        z, features_hat, image_hat = network(h)
        loss = torch.nn.functional.mse_loss(features_hat, h)
        loss = loss + 1 - structural_similarity_index_measure(image_hat, crops, data_range=1.0)
        loss = loss + 5 * domain_alignment_loss(z, domain[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step(0)
    return batch * steps / seconds(lambda: [step(k) for k in range(steps)])


def our_loop(store: Store, batch: int, image_fraction: float, precision: str) -> float:
    """Cells/s of the second epoch of `train_autoencoder`: the first also pays for the warm-up."""
    config = AutoencoderConfig(epochs=2, batch_size=batch, image_fraction=image_fraction, precision=precision)
    with tempfile.TemporaryDirectory() as folder:
        train(store, folder, config)
        return float(pd.read_csv(Path(folder) / "metrics.csv")["cells_per_second"].iloc[-1])


def inference(batch: int, precision: str, decode: bool) -> float:
    """Cells/s of the network without reading: the encoder alone, or with both decoders."""
    network = Autoencoder().to(memory_format=torch.channels_last)
    h = torch.rand(batch, 256, 14, 14).contiguous(memory_format=torch.channels_last)
    run = network if decode else network.encode
    repeats = 1 if decode else 10
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        run(h)
        return batch * repeats / seconds(lambda: [run(h) for _ in range(repeats)])


def seconds(work: Callable[[], object]) -> float:
    """Wall time of `work` in seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def print_table(title: str, rows: list[tuple[str, float]]) -> None:
    """Print a Markdown table of cells/s and ratios to its first row."""
    print(f"\n| {title} | cells/s | ratio |\n|---|---:|---:|")
    for name, speed in rows:
        print(f"| {name} | {speed:.1f} | {speed / rows[0][1]:.2f} |")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=48, help="cells a step")
    parser.add_argument("--steps", type=int, default=2, help="steps measured")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.getLogger("cellfeat").setLevel(logging.ERROR)

    print(f"PyTorch {torch.__version__}, {options.threads} threads, batches of {options.batch}, CPU", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        train_cells = options.batch * options.steps
        store = random_store(Path(folder) / "store", 2 * round(train_cells / 0.8 / 2))
        rows = [("plain PyTorch loop, fp32", plain_loop(store, options.batch, options.steps))]
        for image_fraction in (1.0, 0.1):
            for precision in ("fp32", "bf16"):
                name = f"train_autoencoder, image_fraction {image_fraction:g}, {precision}, channels_last"
                rows.append((name, our_loop(store, options.batch, image_fraction, precision)))
        with patch.object(Doubling, "by_quarters", torch.nn.ConvTranspose2d.forward):
            speed = our_loop(store, options.batch, 1.0, "bf16")
        rows.append(("as the last but two, with PyTorch's transposed convolutions", speed))
    print_table("training", rows)

    rows = [("encoder and both decoders, fp32", inference(options.batch, "fp32", decode=True))]
    rows += [
        (f"encoder only, {precision}", inference(options.batch, precision, decode=False))
        for precision in ("fp32", "bf16")
    ]
    print_table("embedding", rows)


if __name__ == "__main__":
    main()
