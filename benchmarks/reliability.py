"""Makes the tables of docs/reliability.md anew: faults of stores, faults of commands, mutated files.

    python benchmarks/reliability.py --output /dev/shm/reliability                    # all, many hours of one core
    python benchmarks/reliability.py --output /dev/shm/reliability stores commands    # these parts of the page
    python benchmarks/reliability.py --output /dev/shm/reliability --seconds 600      # no longer than so for a part
    python benchmarks/reliability.py --output /dev/shm/small --small --write PAGE.md  # minutes: does all work?

Commands and files go on where an earlier run with the same OUTPUT ended, commands only if it was of the same code; the
table holds what was run so far.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "reliability.md"
PARTS = {"stores": "faults.py", "commands": "command_faults.py", "files": "fuzz.py"}
LARGE = {"files": ["--cases", "40000"]}  # of each reader of files, over 10^6 in all
SMALL = {
    "stores": ["--kills", "4", "--mutations", "40", "--forgeries", "20"],
    "commands": ["--seconds", "120"],
    "files": ["--cases", "50"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="default: all")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--seconds", type=float, help="stop commands and files after so many")
    parser.add_argument("--small", action="store_true", help="a few faults and cases of each kind")
    parser.add_argument("--write", type=Path, default=PAGE, help="a copy of the page (default: docs/reliability.md)")
    options = parser.parse_args()
    for part in options.parts or PARTS:
        argv = [sys.executable, str(HERE / PARTS[part]), "--write", str(options.write)]
        if part != "stores":
            argv += ["--output", str(options.output / part)]
            argv += ["--seconds", str(options.seconds)] if options.seconds else []
        argv += (SMALL if options.small else LARGE).get(part, [])
        subprocess.run(argv, check=True)


if __name__ == "__main__":
    main()
