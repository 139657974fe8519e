r"""AE-CFE at the published number of steps: what z is worth on the way there.

    python benchmarks/autoencoder_length.py runs/full_sets/dump/store --split runs/full_sets/autoencoder/split.csv \
        --set preset=paper --set anchor=Acevedo-20 --output runs/length/paper

The publication takes 150 epochs of 65,693 cells in batches of 1,500: 6,600 steps. Here a step has fewer cells, so that
a CPU can take as many. The autoencoder learns from the train part of the split, without labels. After each epoch that
passes another of JUDGED steps, forests that learn the labels of one laboratory (LEARNED cells of its train part at
most) name the test part of each laboratory, protocol `shared`. An interrupted run goes on when started again.

OUTPUT/metrics.csv has one row an epoch; judged ones have `across` and `within`, the mean accuracies over the pairs of
laboratories, `domain_accuracy`, how well a forest names the laboratory, and `ssim` of pictures of test cells, beside
`ssim_mean_cell`, that of one picture for all of them, the mean of cells learned from.
"""

from __future__ import annotations

import argparse
import logging
import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from torch import Tensor

from cellfeat.autoencoder import AutoencoderConfig, train_autoencoder
from cellfeat.autoencoder.data import read_crops
from cellfeat.autoencoder.losses import ssim
from cellfeat.autoencoder.module import AutoencoderModule
from cellfeat.data.split import read_split
from cellfeat.evaluation.config import EvaluationConfig
from cellfeat.evaluation.separation import separation
from cellfeat.evaluation.table import score_pairs
from cellfeat.store import Store

JUDGED = (100, 200, 400, 700, 1200, 2000, 3000, 4500, 6600, 10000, 15000)  # steps
PUBLISHED = 6600
LEARNED = 2000  # cells of a laboratory
DRAWN = 300  # test cells whose pictures are compared
BATCH = 256
SIZE = {"batch_size": 128, "image_fraction": 0.02, "precision": "bf16"}
JUDGE = EvaluationConfig(protocols=["shared"], runs=3, bootstrap=0)


class Judge:
    """Says what an encoder is worth on some cells of a store, always the same ones."""

    def __init__(self, store: Store, split: pd.Series) -> None:
        table = store.table()
        part = split.reindex(table["cell_id"]).to_numpy(str)
        rng = np.random.default_rng(0)
        learned = [
            rng.permutation(np.flatnonzero((part == "train") & (table["domain"] == name).to_numpy()))[:LEARNED]
            for name in sorted(set(table["domain"]))
        ]
        test = np.flatnonzero(part == "test")
        self.rows = np.sort(np.concatenate([test, *learned]))
        self.store, self.table, self.split = store, table.iloc[self.rows].reset_index(drop=True), split
        self.drawn = np.sort(rng.permutation(test)[:DRAWN])
        self.averaged = np.sort(np.concatenate(learned))

    @torch.inference_mode()
    def __call__(self, module: AutoencoderModule) -> dict[str, float]:
        """Accuracies, separation and pictures of `module.network` as it is."""
        network, masked = module.network, module._config.masked_images
        number = torch.from_numpy(module._dataset.domain)

        def encoded(rows: np.ndarray) -> Tensor:
            features = torch.from_numpy(self.store.read("features", rows))
            return network.encode(network.scaling(features, number[rows])).float()

        parts = np.array_split(self.rows, math.ceil(len(self.rows) / BATCH))
        z = torch.cat([encoded(rows) for rows in parts]).numpy()
        pairs = [pair for pair in score_pairs("z", [z], self.table, "shared", self.split, JUDGE) if not pair.reason]
        right = {(p.train, p.test): np.mean([p.true == named(p, one) for one in p.probabilities]) for p in pairs}
        across = [share for (train, test), share in right.items() if train != test]
        within = [share for (train, test), share in right.items() if train == test]
        labels = (self.table[name].to_numpy(str) for name in ("domain", "label"))
        judged = {"across": float(np.mean(across)), "within": float(np.mean(within))} | separation(z, *labels)
        images = as_images(read_crops(self.store, self.drawn, masked))
        mean = as_images(read_crops(self.store, self.averaged, masked)).mean(0, keepdim=True).expand_as(images)
        hat = [
            network.decode_images(network.decode_features(encoded(rows))).float()
            for rows in np.array_split(self.drawn, 10)
        ]
        return judged | {"ssim": float(ssim(torch.cat(hat), images)), "ssim_mean_cell": float(ssim(mean, images))}


def named(pair, probabilities: np.ndarray) -> np.ndarray:
    return np.array(pair.classes)[probabilities.argmax(1)]


def as_images(crops: np.ndarray) -> Tensor:
    return torch.from_numpy(crops).permute(0, 3, 1, 2).float() / 255


def judged_by(judge: Judge) -> type[AutoencoderModule]:
    """AE-CFE whose history also has the judge's numbers."""

    class Judged(AutoencoderModule):
        def _measure_health(self, z: Tensor, domain: Tensor) -> dict[str, float]:
            health = super()._measure_health(z, domain) | {"steps": self.global_step}
            before = self.global_step - len(self.trainer.train_dataloader)
            if not any(before < steps <= self.global_step for steps in JUDGED):
                return health
            judged = judge(self)
            print(f"{self.global_step} steps:", *(f"{k} {v:.3f}" for k, v in judged.items()), flush=True)
            return health | judged

    return Judged


def main() -> None:
    """Train and judge one setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--split", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of AutoencoderConfig")
    parser.add_argument("--steps", type=int, default=PUBLISHED)
    given = parser.parse_args()
    store, split = Store(given.store), read_split(given.split)
    rows = np.flatnonzero(split.reindex(store.table()["cell_id"]).to_numpy(str) == "train")
    settings = SIZE | {key: yaml.safe_load(value) for key, _, value in (one.partition("=") for one in given.set)}
    config = AutoencoderConfig.model_validate(settings)
    epochs = math.ceil(given.steps / math.ceil(len(rows) / config.batch_size))
    config = AutoencoderConfig.model_validate(settings | {"epochs": epochs})
    train_autoencoder(store, given.output, config, rows, judged_by(Judge(store, split)))
    judged = pd.read_csv(given.output / "metrics.csv").dropna(subset="across")
    print(judged.round(3).to_string(index=False))


if __name__ == "__main__":
    logging.basicConfig(format="%(message)s", level=logging.INFO)
    main()
