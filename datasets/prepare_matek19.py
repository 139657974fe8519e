"""Matek-19 (TCIA AML-Cytomorphology_LMU) to a label table for the dataset matek-19.

python datasets/prepare_matek19.py DOWNLOAD_DIR [--output DATA_ROOT]
"""

from cellfeat.data.prepare import prepare_matek19, run_script

if __name__ == "__main__":
    raise SystemExit(run_script(prepare_matek19, __doc__))
