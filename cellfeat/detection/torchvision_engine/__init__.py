"""Detectron2's Mask R-CNN on torchvision's parts: same configs, same checkpoints, same numbers."""
