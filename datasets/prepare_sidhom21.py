"""Sidhom-21 (DeepAPL) to a label table for the dataset sidhom-21.

python datasets/prepare_sidhom21.py DOWNLOAD_DIR [--output DATA_ROOT]
"""

from cellfeat.data.prepare import prepare_sidhom21, run_script

if __name__ == "__main__":
    raise SystemExit(run_script(prepare_sidhom21, __doc__))
