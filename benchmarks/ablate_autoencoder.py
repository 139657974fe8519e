"""What AE-CFE learns from its inputs: one factor at a time, over the features of a store.

Every setting is trained on four fifths of the train part of a split and judged on the last fifth of that part; cells of
the test part are never looked at. A run that is interrupted goes on when started again, and a setting that is there is
not trained again. Results: OUTPUT/ablation.csv (one row a setting and seed), OUTPUT/curves.csv (one row an epoch),
OUTPUT/curves.png, and a Markdown table on the screen.

    python benchmarks/ablate_autoencoder.py runs/real_smears/dump/store --split runs/real_smears/autoencoder/split.csv
    python benchmarks/ablate_autoencoder.py STORE --split SPLIT --only 'transfer; paper' --seeds 0 1 2
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import torch
from ablation_settings import SETTINGS, Setting
from sklearn.decomposition import PCA
from torch import Tensor

from cellfeat.autoencoder import AutoencoderConfig, train_autoencoder
from cellfeat.autoencoder.data import read_crops
from cellfeat.autoencoder.losses import ssim
from cellfeat.autoencoder.module import AutoencoderModule
from cellfeat.autoencoder.network import FEATURE_SHAPE
from cellfeat.autoencoder.pooled_network import PooledAutoencoder, build_network
from cellfeat.autoencoder.profile import masked_features, measure
from cellfeat.autoencoder.scaling import ChannelScaling
from cellfeat.core.files import read_json, slug, write_json, write_text
from cellfeat.core.tensors import load_tensors
from cellfeat.data.split import read_split, stratified_split
from cellfeat.evaluation.config import EvaluationConfig
from cellfeat.evaluation.separation import separation
from cellfeat.evaluation.table import score_pairs
from cellfeat.methods import build
from cellfeat.store import Store, embed_batches

matplotlib.use("Agg")
import matplotlib.pyplot as plt

SIZE = {
    "epochs": 12,
    "batch_size": 128,
    "image_fraction": 0.02,
    "precision": "bf16",
    "anchor": "pbc-barcelona",
    "preset": "code",
}
DOMAINS = ("pbc-barcelona", "apl-hopkins", "marrow-munich")
JUDGE = EvaluationConfig(protocols=["paper"], runs=3, bootstrap=0, domains=list(DOMAINS))


@dataclass(frozen=True)
class Cells:
    """What is learned from and what is judged.

    Attributes:
        store: Of the cells, and maybe of changed copies of them (`other_features.py --views`).
        table: Its table.
        part: By cell_id: "train" or "test" within the train part of the given split, of all else nothing.
        learned: (len(store),) bool: the cells of "train" and their copies; forests learn from the cells alone.
    """

    store: Store
    table: pd.DataFrame
    part: pd.Series
    learned: np.ndarray

    @classmethod
    def of(cls, store: Store, split: Path) -> Cells:
        table = store.table()
        names = table["cell_id"]
        given = read_split(split).reindex(names).to_numpy(str)
        part = stratified_split(table[given == "train"], 0.2, seed=1).reindex(names)
        learned = part.reindex(names.str.replace(r"~\d+(?=#)", "", regex=True)) == "train"
        return cls(store, table, part, learned.to_numpy())

    @property
    def judged(self) -> np.ndarray:
        """Rows of the validation cells."""
        return np.flatnonzero((self.part == "test").to_numpy() & self.table["domain"].isin(DOMAINS).to_numpy())


Baseline = Callable[[Store, pd.DataFrame, np.ndarray], np.ndarray]


def standardised(z: np.ndarray, table: pd.DataFrame, learned: np.ndarray) -> np.ndarray:
    """z with mean 0 and standard deviation 1 in each domain, as of the learned cells."""
    z, domain = z.astype(np.float64), table["domain"].to_numpy(str)
    for name in set(domain):
        here = domain == name
        known = z[here & learned] if (here & learned).any() else z[here]
        z[here] = (z[here] - known.mean(0)) / np.maximum(known.std(0), 1e-6)
    return z


def of_method(name: str) -> Baseline:
    return lambda store, table, learned: build(name).embed(store, Path())


def by_domain(baseline: Baseline) -> Baseline:
    return lambda store, table, learned: standardised(baseline(store, table, learned), table, learned)


def principal(baseline: Baseline) -> Baseline:
    """Its first 50 principal components."""

    def embed(store: Store, table: pd.DataFrame, learned: np.ndarray) -> np.ndarray:
        z = baseline(store, table, learned).reshape(len(store), -1)
        return PCA(50, svd_solver="randomized", random_state=0).fit(z[learned]).transform(z)

    return embed


def over_the_mask(store: Store, table: pd.DataFrame, learned: np.ndarray) -> np.ndarray:
    """The features averaged where the cell is."""

    def embed(chosen: np.ndarray) -> np.ndarray:
        return masked_features(store.read("features", chosen), store.read("masks", chosen))[:, : FEATURE_SHAPE[0]]

    return embed_batches(store, "embed", 256, embed)


def whole_map(store: Store, table: pd.DataFrame, learned: np.ndarray) -> np.ndarray:
    """The features as they are, each channel divided by its standard deviation."""
    z = store.read("features", slice(None)).astype(np.float32)
    return z / z[learned].std((0, 2, 3))[:, None, None]


@torch.inference_mode()
def best_linear(store: Store, table: pd.DataFrame, learned: np.ndarray) -> np.ndarray:
    """What the preset transfer starts from: 50 numbers, tanh of ones linear in each channel's mean and deviation."""
    rows = np.flatnonzero(learned)
    names, number = np.unique(table["domain"].to_numpy(str), return_inverse=True)
    numbers = torch.from_numpy(number)
    scaling = ChannelScaling(len(names), FEATURE_SHAPE[0])
    scaling.measure(store, rows, number[rows])
    network = PooledAutoencoder(scaling)
    profile, pooled = measure(store, rows, number[rows], scaling)
    network.warm_start(pooled, profile)

    def embed(chosen: np.ndarray) -> np.ndarray:
        return network.encode(scaling(torch.from_numpy(store.read("features", chosen)), numbers[chosen])).numpy()

    return embed_batches(store, "embed", 256, embed)


BASELINES: dict[str, Baseline] = {
    "colour floor": of_method("colour"),
    "colour quantiles in the mask": of_method("quantiles"),
    "colour quantiles, standardised by domain": by_domain(of_method("quantiles")),
    "features averaged (rcnn)": of_method("rcnn"),
    "features averaged, standardised by domain": by_domain(of_method("rcnn")),
    "features averaged over the mask": over_the_mask,
    "features averaged over the mask, standardised by domain": by_domain(over_the_mask),
    "features averaged, 50 components": principal(of_method("rcnn")),
    "whole map, 50 components": principal(whole_map),
    "best linear latent": best_linear,
}
"""What the same cells give without an autoencoder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--split", type=Path, required=True, help="only its train part is used")
    parser.add_argument("--output", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", help="settings to train: names, separated by semicolons; default: all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    known = [*BASELINES, *(setting.name for setting in SETTINGS)]
    chosen = [name.strip() for name in options.only.split(";")] if options.only else known
    if unknown := set(chosen) - set(known):
        parser.error(f"--only: no such setting: {'; '.join(sorted(unknown))}")
    cells = Cells.of(Store(options.store), options.split)
    for name in (one for one in BASELINES if one in chosen):
        folder = place(options.output, name, 0)
        if not (folder / "scores.json").is_file():
            print(name, flush=True)
            z = BASELINES[name](cells.store, cells.table, cells.learned)
            write_json(folder / "scores.json", {"setting": name, "seed": 0} | judge(z.astype(np.float32), cells))
        summarise(options.output)
    for seed in options.seeds:
        for setting in (one for one in SETTINGS if one.name in chosen):
            folder = place(options.output, setting.name, seed)
            if not (folder / "scores.json").is_file():
                print(f"{setting.name}, seed {seed}", flush=True)
                run(setting, seed, cells, folder)
            summarise(options.output)
    print((options.output / "ablation.md").read_text())


def place(output: Path, name: str, seed: int) -> Path:
    """Folder of one setting and seed."""
    return output / "runs" / slug(name) / f"seed-{seed}"


def judge(z: np.ndarray, cells: Cells) -> dict[str, float]:
    """Accuracies and separation of the validation cells of an embedding (len(store), d)."""
    rows = cells.judged
    labels = [cells.table[name].to_numpy(str)[rows] for name in ("domain", "label")]
    return accuracies(z, cells) | separation(z[rows], *labels)


def run(setting: Setting, seed: int, cells: Cells, folder: Path) -> None:
    """Train one setting with one seed, judge it on the validation cells, write scores.json last."""
    config = AutoencoderConfig.model_validate({**SIZE, **setting.config, "seed": seed})
    store, learned = cells.store, np.flatnonzero(cells.learned)
    weights = train_autoencoder(store, folder, config, learned, changed(setting))
    names = read_json(folder / "record.json")["inputs"]["domains"]
    network = build_network(config.network, config.scaling, len(names))
    if setting.change:
        setting.change(network)
    network.load_state_dict(load_tensors(weights, "", ""))
    numbers = {name: k for k, name in enumerate(names)}
    number = torch.from_numpy(cells.table["domain"].map(numbers).fillna(0).to_numpy(int))

    def scaled(chosen: np.ndarray) -> Tensor:
        return network.scaling(torch.from_numpy(store.read("features", chosen)), number[chosen])

    with torch.inference_mode():
        z = embed_batches(store, "embed", 256, lambda chosen: network.encode(scaled(chosen)).numpy())
        scores = {"setting": setting.name, "seed": seed, **judge(z, cells)}
        shown = cells.judged[::4]
        images = read_images(store, shown, config.masked_images)
        mean = read_images(store, learned, config.masked_images).mean(0, keepdim=True)
        drawn = network.decode_images(network.decode_features(torch.from_numpy(z[shown])))
        scores["ssim"] = float(ssim(drawn, images))
        scores["ssim_mean_cell"] = float(ssim(mean.expand_as(images), images))
    last = pd.read_csv(folder / "metrics.csv").iloc[-1]
    for name in ("sd", "effective_rank"):
        scores[name] = float(last[f"{name}_{DOMAINS[0]}"])
    write_json(folder / "scores.json", scores)


def changed(setting: Setting) -> type[AutoencoderModule]:
    """The module of a setting, its network changed."""

    class Changed(setting.module):  # type: ignore[name-defined, misc]
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            if setting.change:
                with torch.random.fork_rng():
                    torch.manual_seed(self._config.seed)
                    setting.change(self.network)

    return Changed


def accuracies(z: np.ndarray, cells: Cells) -> dict[str, float]:
    """Accuracy of every pair of domains, forests of protocol `paper`, and the mean over pairs of different domains."""
    mine = cells.part.notna().to_numpy()
    scores = {}
    for pair in score_pairs("z", [z[mine]], cells.table[mine], "paper", cells.part.dropna(), JUDGE):
        if not pair.reason:
            classes = np.array(pair.classes)
            right = [classes[one.argmax(1)] == pair.true for one in pair.probabilities]
            scores[pair.train, pair.test] = float(np.mean(right))
    across = np.mean([score for (train, test), score in scores.items() if train != test])
    return {f"{train} > {test}": score for (train, test), score in scores.items()} | {"across": float(across)}


def read_images(store: Store, rows: np.ndarray, masked: bool) -> Tensor:
    """Crops (n, 3, 128, 128) in [0, 1], white outside the mask where the setting draws them so."""
    return torch.from_numpy(read_crops(store, rows, masked)).permute(0, 3, 1, 2).float() / 255


def summarise(output: Path) -> None:
    """Write ablation.csv, curves.csv, curves.png and ablation.md from all that is there."""
    done = sorted(output.glob("runs/*/seed-*/scores.json"))
    order = {name: k for k, name in enumerate([*BASELINES, *(setting.name for setting in SETTINGS)])}
    table = pd.DataFrame([read_json(path) for path in done])
    table = table.sort_values(
        ["setting", "seed"], key=lambda column: column.map(order) if column.name == "setting" else column
    )
    write_text(output / "ablation.csv", table.to_csv(index=False))
    curves = [
        pd.read_csv(path.with_name("metrics.csv")).assign(
            setting=read_json(path)["setting"], seed=read_json(path)["seed"]
        )
        for path in done
        if path.with_name("metrics.csv").is_file()
    ]
    if curves:
        write_text(output / "curves.csv", pd.concat(curves).to_csv(index=False))
        draw_curves(pd.concat(curves), output / "curves.png")
    near, far = DOMAINS[:2]
    columns = {
        "within Barcelona": f"{near} > {near}",
        "to Hopkins": f"{near} > {far}",
        "from Hopkins": f"{far} > {near}",
        "across, all pairs": "across",
        "sd of z": "sd",
        "effective rank": "effective_rank",
        "SSIM": "ssim",
        "mean cell": "ssim_mean_cell",
        "domain accuracy": "domain_accuracy",
        "silhouette by class": "silhouette_class",
    }
    lines = ["| setting | seeds | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for name, group in table.groupby("setting", sort=False):
        cells = [shown_as(group[key]) if key in group else "" for key in columns.values()]
        lines.append(f"| {name} | {len(group)} | " + " | ".join(cells) + " |")
    write_text(output / "ablation.md", "\n".join(lines) + "\n")


def shown_as(values: pd.Series) -> str:
    """Mean and, of several seeds, standard deviation; nothing where there is no value."""
    if values.isna().all():
        return ""
    return f"{values.mean():.3f}" + (f" ± {values.std():.3f}" if len(values) > 1 else "")


def draw_curves(curves: pd.DataFrame, path: Path) -> None:
    """Losses and the spread of z by epoch: a line a setting (the mean over its seeds), a row of axes a family."""
    columns = {
        "feature_loss": "feature loss",
        "image_loss": "1 - SSIM",
        f"sd_{DOMAINS[0]}": "spread of z, first domain",
    }
    mean = curves.groupby(["setting", "epoch"], sort=False, as_index=False)[list(columns)].mean()
    families = list(mean.groupby(mean["setting"].str.split(",").str[0], sort=False))
    figure, grid = plt.subplots(
        len(families),
        3,
        figsize=(14, 4 * len(families) + 1),
        sharex="col",
        sharey="col",
        layout="constrained",
        squeeze=False,
    )
    for axes, (_, family) in zip(grid, families):
        settings = list(family.groupby("setting", sort=False))
        for axis, (name, title) in zip(axes, columns.items()):
            for k, (setting, line) in enumerate(settings):
                colour = plt.cm.turbo(k / max(1, len(settings) - 1))
                axis.plot(line["epoch"] + 1, line[name], label=setting, color=colour)
            axis.set(title=title, xlabel="epoch", yscale="linear" if name == "image_loss" else "log")
        axes[-1].legend(loc="upper left", bbox_to_anchor=(1.02, 1), fontsize=8)
    figure.savefig(path, dpi=80)
    plt.close(figure)


if __name__ == "__main__":
    main()
