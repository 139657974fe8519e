"""Links to the pictures of full public sets that may be learned from, for a dataset of each.

    python benchmarks/kept_pictures.py KEPT --set acevedo-20 FOLDER --set sidhom-21 FOLDER [--leave-out FOLDER]
    python datasets/prepare_acevedo20.py KEPT/acevedo-20

KEPT/<set> has the folders of the download. A picture of the examination part (`of_examination` in centre_store.py) is
never linked, nor one that is byte for byte in a folder that is left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from centre_store import SETS, contents, pictures


def main() -> None:
    """Make the links; those that are there are kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kept", type=Path)
    parser.add_argument("--set", nargs=2, action="append", required=True, metavar=("NAME", "FOLDER"), dest="sets")
    parser.add_argument("--leave-out", type=Path, action="append", default=[], metavar="FOLDER")
    given = parser.parse_args()
    unknown = sorted({name for name, _ in given.sets} - set(SETS))
    if unknown:
        parser.error(f"--set: no such set: {', '.join(unknown)}; choose of {', '.join(SETS)}")
    left_out = contents(given.leave_out)
    for name, folder in given.sets:
        number = 0
        for key, path, _, _ in pictures(name, Path(folder), left_out):
            link = given.kept / name / key
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(path.resolve())
            number += 1
        print(f"{name}: {number} pictures kept")


if __name__ == "__main__":
    main()
