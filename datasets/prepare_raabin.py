"""Raabin-WBC to COCO JSON: cells with masks (raabin-wbc) and whole fields with boxes (raabin-wbc-fields).

python datasets/prepare_raabin.py DOWNLOAD_DIR [--output DATA_ROOT]
"""

from cellfeat.data.prepare import prepare_raabin, run_script

if __name__ == "__main__":
    raise SystemExit(run_script(prepare_raabin, __doc__))
