"""Acevedo-20 (PBC_dataset_normal_DIB) to a label table for the dataset acevedo-20.

python datasets/prepare_acevedo20.py DOWNLOAD_DIR [--output DATA_ROOT]
"""

from cellfeat.data.prepare import prepare_acevedo20, run_script

if __name__ == "__main__":
    raise SystemExit(run_script(prepare_acevedo20, __doc__))
