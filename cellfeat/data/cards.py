"""MODEL_CARD.md of what was trained and cards of datasets, with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from cellfeat.core.files import write_text
from cellfeat.core.version import __version__
from cellfeat.data.catalogue import open_dataset
from cellfeat.data.dataset import Dataset
from cellfeat.errors import CellfeatError

MODEL_CARD = "MODEL_CARD.md"
# The hub's names of licences that datasets state; every other one is "other", and its text is in the card.
LICENCES = {
    **{"CC BY 4.0": "cc-by-4.0", "CC BY 3.0": "cc-by-3.0", "CC BY-SA 4.0": "cc-by-sa-4.0", "CC0 1.0": "cc0-1.0"},
    **{"CC BY-NC 4.0": "cc-by-nc-4.0", "MIT": "mit", "Apache-2.0": "apache-2.0"},
}
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))  # the hub's
LIMITS = (
    "For research, not for diagnosis.",
    "Nothing is known of laboratories, stains and microscopes other than those above: evaluate on your own first.",
)


@dataclass(frozen=True)
class ModelCard:
    """What a model card says.

    Attributes:
        title: One line.
        summary: What it is and how it is used.
        task: The hub's name of the task, such as "object-detection".
        datasets: Names of the datasets that it learned from, if wanted with @train.
        settings: All that was set, as YAML values.
        facts: Further lines on the training: name to value.
        metrics: (dataset, metric, value), fractions of 1 where they are rates.
        limits: Beside `LIMITS`.
    """

    title: str
    summary: str
    task: str
    datasets: Sequence[str]
    settings: Mapping[str, Any]
    facts: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[tuple[str, str, float]] = ()
    limits: Sequence[str] = ()


def write_model_card(folder: Path, card: ModelCard, data_root: Path | None = None) -> Path:
    """Write MODEL_CARD.md; returns its path.

    Args:
        data_root: The folder of the datasets, whose licences and citations are named; as `open_dataset`.
    """
    sources = [_source(name, data_root) for name in card.datasets]
    results = [
        {
            "task": {"type": card.task},
            "dataset": {"type": name, "name": name},
            "metrics": [
                {"type": metric, "name": metric, "value": round(value, 4)}
                for dataset, metric, value in card.metrics
                if dataset == name
            ],
        }
        for name in dict.fromkeys(dataset for dataset, _, _ in card.metrics)
    ]
    front = _licence([source["licence"] for source in sources]) | {
        "library_name": "cellfeat",
        "pipeline_tag": card.task,
        "tags": ["hematology", "blood-smear"],
        **({"model-index": [{"name": card.title, "results": results}]} if results else {}),
    }
    path = folder / MODEL_CARD
    write_text(path, f"---\n{_yaml(front)}---\n\n{chr(10).join(_lines(card, sources))}\n")
    return path


def dataset_card(dataset: Dataset) -> str:
    """A dataset's card as Markdown, from its dataset.yaml and what its files hold.

    Raises:
        CellfeatError: Its files cannot be used.
    """
    spec, records = dataset.spec, dataset.records()
    labels = Counter(record.label or "unlabelled" for record in records)
    summary = dataset.summary(read_masks=False)
    tasks = ["image-classification"] if set(labels) - {"unlabelled"} else []
    tasks += ["object-detection"] if summary.annotated else []
    front = _licence([spec.licence]) | {
        "pretty_name": spec.title or spec.name,
        "size_categories": [next((name for limit, name in SIZES if len(records) < limit), "n>1M")],
        **({"task_categories": tasks} if tasks else {}),
        "tags": ["hematology", "blood-smear"],
    }
    groups = len({record.group for record in records} - {""})
    scale = f"{spec.um_per_px} µm a pixel" if spec.um_per_px else "not stated"
    lines = [
        *(f"# {spec.title or spec.name}", ""),
        *_table(
            ("what", "value"),
            [
                *(("name", spec.name), ("site", spec.domain), ("scale", scale), ("images", len(records))),
                ("patients", groups or "not stated"),
                ("annotated images", summary.annotated),
                *(("licence", spec.licence), ("citation", spec.citation)),
            ],
        ),
        *("", "## Labels", ""),
        *_table(("class", "images"), labels.most_common()),
    ]
    return f"---\n{_yaml(front)}---\n\n{chr(10).join(lines)}\n"


def datasets_of(provenance: Any) -> list[str]:
    """The datasets that a store was made from, also through subsets and merges, by its provenance."""
    if not isinstance(provenance, Mapping):
        return []
    own, merged = ([] if part is None else part for part in map(provenance.get, ("datasets", "merged")))
    inner = [name for part in (provenance.get("provenance"), *merged) for name in datasets_of(part)]
    return list(dict.fromkeys([*map(str, own), *inner]))


def _source(name: str, data_root: Path | None) -> dict[str, str]:
    try:
        spec = open_dataset(name, data_root).spec
    except CellfeatError:  # a folder that was given by its path, or a dataset of another machine
        return {"dataset": name, "licence": "not stated", "citation": "not stated"}
    return {"dataset": name, "licence": spec.licence, "citation": spec.citation}


def _licence(stated: Sequence[str]) -> dict[str, str]:
    """The front matter's keys on licences: of all data, where they share one that the hub knows."""
    found = {next((hub for name, hub in LICENCES.items() if one.startswith(name)), "other") for one in stated}
    licence = found.pop() if len(found) == 1 else "other"
    return {"license": licence} | ({"license_name": "see-data"} if licence == "other" else {})


def _lines(card: ModelCard, sources: Sequence[dict[str, str]]) -> Iterator[str]:
    yield from (f"# {card.title}", "", card.summary, "", "## Data", "")
    if sources:
        yield from _table(("dataset", "licence", "citation"), [tuple(source.values()) for source in sources])
    else:
        yield "Not recorded."
    yield from ("", "## Training", "")
    yield from (f"- {name}: {value}" for name, value in {"cellfeat": __version__, **card.facts}.items())
    yield from ("", "```yaml", _yaml(card.settings).rstrip(), "```", "")
    if card.metrics:
        yield from ("## Figures", "")
        yield from _table(("on", "metric", "value"), [(on, name, f"{value:.4g}") for on, name, value in card.metrics])
        yield ""
    yield from ("## Limits", "")
    yield from (f"- {limit}" for limit in (*card.limits, *LIMITS))


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(' '.join(str(value).replace('|', '/').split()) for value in row)} |"


def _yaml(content: Any) -> str:
    return yaml.safe_dump(_plain(content), sort_keys=False, allow_unicode=True, width=120)


def _plain(content: Any) -> Any:
    """Only what YAML has: tuples are lists, paths texts."""
    if isinstance(content, Mapping):
        return {str(name): _plain(value) for name, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_plain(value) for value in content]
    return content if isinstance(content, (str, int, float, bool)) or content is None else str(content)
