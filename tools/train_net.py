"""Train or evaluate a detector: Detectron2's arguments and --engine. See `cellfeat train-net --help`."""

import sys

from cellfeat.cli import main

if __name__ == "__main__":
    main(["train-net", *sys.argv[1:]])
