"""segmentation_WBC (Zheng et al. 2018) to COCO JSON and label tables: segmentation-wbc-1 and segmentation-wbc-2.

python datasets/prepare_segmentation_wbc.py DOWNLOAD_DIR [--output DATA_ROOT]
"""

from cellfeat.data.prepare import prepare_segmentation_wbc, run_script

if __name__ == "__main__":
    raise SystemExit(run_script(prepare_segmentation_wbc, __doc__))
