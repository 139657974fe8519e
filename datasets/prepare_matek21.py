"""Matek-21 (Bone-Marrow-Cytomorphology_MLL_Helmholtz_Fraunhofer) for the dataset matek-21.

python datasets/prepare_matek21.py DOWNLOAD_DIR [--output DATA_ROOT]
"""

from cellfeat.data.prepare import prepare_matek21, run_script

if __name__ == "__main__":
    raise SystemExit(run_script(prepare_matek21, __doc__))
