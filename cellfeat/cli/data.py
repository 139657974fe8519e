"""Commands on datasets of images."""

from __future__ import annotations

from cellfeat.cli.command import command


@command()
def datasets() -> None:
    """List the datasets that can be named, and whether their images are here."""
    from cellfeat.data.catalogue import data_root, dataset_names, open_dataset

    print(f"data root: {data_root()} (CELLFEAT_DATASETS)")
    for name in dataset_names():
        spec = open_dataset(name).spec
        here = "here" if (data_root() / name).is_dir() else "absent"
        print(f"{name:22} {here:7} {spec.domain:22} {spec.title}")
