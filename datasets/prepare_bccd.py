"""BCCD masks (Banik et al. 2020) to COCO JSON for the dataset bccd.

python datasets/prepare_bccd.py DOWNLOAD_DIR [--output DATA_ROOT]
"""

from cellfeat.data.prepare import prepare_bccd, run_script

if __name__ == "__main__":
    raise SystemExit(run_script(prepare_bccd, __doc__))
