"""Show what a feature store holds. See `cellfeat inspect --help`."""

import sys

from cellfeat.cli import main

if __name__ == "__main__":
    main(["inspect", *sys.argv[1:]])
