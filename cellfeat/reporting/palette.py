"""How classes and domains look and are called in figures, for every kind of colour vision."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class ClassStyle(NamedTuple):
    """A class's name in prose, colour and matplotlib marker."""

    name: str
    colour: str
    marker: str


# Nobody can tell thirteen colours from each other. So the marker shows the lineage and the colour the cell within it.
# The neutrophil series runs from dark to bright as it matures. The order is that of a differential count.
CLASSES = {
    "blast": ClassStyle("blast", "#000000", "*"),
    "promyelocyte": ClassStyle("promyelocyte", "#46085c", "o"),
    "myelocyte": ClassStyle("myelocyte", "#3b518b", "o"),
    "metamyelocyte": ClassStyle("metamyelocyte", "#218f8d", "o"),
    "neutrophil_band": ClassStyle("band neutrophil", "#57c766", "o"),
    "neutrophil_segmented": ClassStyle("segmented neutrophil", "#d8d219", "o"),
    "eosinophil": ClassStyle("eosinophil", "#e8710a", "^"),
    "basophil": ClassStyle("basophil", "#28347a", "^"),
    "monocyte": ClassStyle("monocyte", "#2a9df4", "s"),
    "lymphocyte": ClassStyle("lymphocyte", "#c2185b", "D"),
    "lymphocyte_atypical": ClassStyle("atypical lymphocyte", "#f2a0c0", "D"),
    "erythroblast": ClassStyle("erythroblast", "#9c2a10", "P"),
    "smudge_cell": ClassStyle("smudge cell", "#8a8a8a", "X"),
}
UNLABELLED = ClassStyle("no label", "#d4d4d4", ".")

_OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#4d4d4d", "#c9b90a")
_MARKERS = ("o", "s", "^", "D", "P", "X", "v", "*")


def class_style(label: str) -> ClassStyle:
    """The style of a class; one outside the 13-class vocabulary gets a colour by its name, "" is unlabelled."""
    if not label:
        return UNLABELLED
    turn = sum(label.encode(errors="backslashreplace"))
    return CLASSES.get(label, ClassStyle(label.replace("_", " "), _OKABE_ITO[turn % 8], _MARKERS[turn // 8 % 8]))


def in_reading_order(labels: Iterable[str]) -> list[str]:
    """Distinct labels, the 13 classes first, in the order of a differential count; then others; "" last."""
    known = list(CLASSES)
    return sorted(
        set(labels), key=lambda label: (label == "", known.index(label) if label in CLASSES else len(known), label)
    )


def caption(domain: str, label: str) -> str:
    """Words beneath a picture of one cell: its domain and class."""
    return f"{domain}, {class_style(label).name}" if label else domain


METHODS = {
    "aae": "AE, adversarial",
    "ae": "AE without alignment",
    "aecfe": "AE-CFE",
    "colour": "colour floor",
    "image-ae": "image AE",
    "simclr": "SimCLR",
    "wbc-ssl": "built-in embedding",
    "psd": "sparse coding (PSD)",
    "rcnn": "R-CNN features",
}
ALIGNMENTS = {"coral": "CORAL", "combat": "ComBat", "monge": "Monge"}
CLASSIFIERS = {"forest": "", "linear": ", linear probe", "knn": ", k-NN", "own": ""}


def method_name(method: str, classifier: str = "forest") -> str:
    """What a method, an alignment of it (`method+alignment`) and its classifier are called in prose."""
    name, plus, alignment = method.partition("+")
    aligned = (
        f" + {alignment.replace('coral', 'CORAL').replace('combat', 'ComBat').replace('monge', 'Monge')}"
        if plus
        else ""
    )
    return f"{METHODS.get(name, name)}{aligned}{CLASSIFIERS.get(classifier, ', ' + classifier)}"


def domain_colours(domains: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Colour and marker of each domain."""
    return {name: (_OKABE_ITO[k % 8], _MARKERS[k % 8]) for k, name in enumerate(sorted(set(domains)))}
