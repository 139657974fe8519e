"""Commands on datasets of images."""

from __future__ import annotations

from cellfeat.cli.command import command


@command()
def datasets() -> None:
    """List the datasets that can be named, and whether their images are here."""
    from cellfeat.data.catalogue import DatasetSpec, data_root, describe_datasets

    print(f"data root: {data_root()} (CELLFEAT_DATASETS)")
    for name, spec in describe_datasets().items():
        if isinstance(spec, DatasetSpec):
            here = "here" if (data_root() / name).is_dir() else "absent"
            print(f"{name:22} {here:7} {spec.domain:22} {spec.title}")
        else:
            print(f"{name:22} faulty  {spec}")
