"""The numbers of the publications, as data, and which of ours may be compared with them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import as_file, files

import pandas as pd


def load_published(name: str = "accuracy") -> pd.DataFrame:
    """Published numbers, as fractions.

    Args:
        name: "accuracy" (source, table, method, train, test, metric, value, sd, classes, note): Tables 1 and 2 of the
            AE-CFE paper, "detection" (source, metric, value, note), "domains" (domain, images, approximate, note): how
            many images the paper's domains hold, or "elsewhere" (source, method, where, data, metric, value, up_to,
            note, reference): results on data that are not these domains; `where` says whether to compare them with ours
            within or across domains, `up_to` is the end of a range of which `value` is the start.
    """
    with as_file(files("cellfeat.evaluation") / "published" / f"{name}.csv") as path:
        table = pd.read_csv(path)
    return table.fillna({"note": ""})


def published_beside_ours(
    scored: pd.DataFrame, images: Mapping[str, int], same_site: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The published values of the pairs of domains that were scored here, and in what the data differ.

    Args:
        scored: A cross-domain table.
        images: How many images each of our domains holds.
        same_site: Our domain's name to the paper's, where they come from the same place under different names.

    Returns:
        One row for each published value and pair of our domains that matches it: the columns of the published table,
        ours_train, ours_test (our names) and differs: what tells our data from the paper's, "" where nothing does.
    """
    same_site = same_site or {}
    domains = load_published("domains").set_index("domain")
    ours = scored.drop_duplicates(["train", "test"])[["train", "test", "classes"]]
    ours = ours.rename(columns={"train": "ours_train", "test": "ours_test", "classes": "ours_classes"})
    for side in ("train", "test"):
        ours[side] = [same_site.get(name, name) for name in ours[f"ours_{side}"]]
    matched = load_published().merge(ours, on=["train", "test"])
    matched["differs"] = ["; ".join(_differences(row, images, domains)) for row in matched.to_dict("records")]
    return matched.drop(columns="ours_classes")


def _differences(row: dict, images: Mapping[str, int], domains: pd.DataFrame) -> list[str]:
    found = []
    for name, site in {row["ours_train"]: row["train"], row["ours_test"]: row["test"]}.items():
        have, theirs = images.get(name, 0), domains.loc[site]
        if theirs["approximate"] == "yes":
            found.append(f"{have:,} of around {theirs['images']:,} images of {site}")
        elif have != theirs["images"]:
            found.append(f"{have:,} of {theirs['images']:,} images of {site}")
    classes = len(row["ours_classes"].split(";")) if row["ours_classes"] else 0
    if classes != row["classes"]:
        found.append(f"{classes} of {row['classes']} classes")
    return found
