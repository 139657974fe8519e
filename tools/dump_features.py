"""Find cells in datasets and store their features. See `cellfeat dump --help`."""

import sys

from cellfeat.cli import main

if __name__ == "__main__":
    main(["dump", *sys.argv[1:]])
