"""What a training image may undergo: resize, turn, flip, rotate, recolour, restain; the masks follow exactly."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from fvcore.common.config import CfgNode
from torchvision.transforms.v2 import functional as F

from cellfeat.data.restain import blurred, restained
from cellfeat.detection.resize import physical_size, resize_image, shortest_edge_size

JPEG_QUALITY = (30, 95)


def augment(
    image: np.ndarray, masks: np.ndarray, um_per_px: float | None, cfg: CfgNode, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Draw one variant of a training image as the config's INPUT section says.

    Args:
        image: RGB uint8 (h, w, 3).
        masks: uint8 0/1 (n, h, w).
        um_per_px: The image's scale, µm a pixel, if known.
        cfg: The detector's config.
        rng: Random number generator of this image.

    Returns:
        image uint8 (H, W, 3) and masks uint8 0/1 (n, H, W) in the same new frame.
    """
    size = _training_size(image.shape[:2], um_per_px, cfg, rng)
    image = resize_image(image, size)
    masks = (
        np.stack([cv2.resize(m, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT) for m in masks])
        if len(masks)
        else (np.zeros((0, *size), np.uint8))
    )
    image, masks = _flip_and_turn(image, masks, cfg, rng)
    if cfg.INPUT.AUG.ROTATION:
        image, masks = _rotate(image, masks, rng.uniform(-1, 1) * cfg.INPUT.AUG.ROTATION)
    return _photographed(_recolour(image, cfg, rng), cfg, rng), masks


def _training_size(size, um_per_px, cfg, rng):  # type: ignore[no-untyped-def]
    edges = cfg.INPUT.MIN_SIZE_TRAIN
    edge = (
        int(rng.choice(edges))
        if cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING == "choice"
        else int(rng.integers(edges[0], edges[1] + 1))
    )
    if cfg.INPUT.UM_PER_PX and um_per_px:  # the spread of short edges becomes a spread of scales about the stated one
        target = cfg.INPUT.UM_PER_PX * cfg.INPUT.MIN_SIZE_TEST / edge
        return physical_size(size, um_per_px, target, cfg.INPUT.MAX_SIZE_TRAIN)
    return shortest_edge_size(size, edge, cfg.INPUT.MAX_SIZE_TRAIN)


def _flip_and_turn(image, masks, cfg, rng):  # type: ignore[no-untyped-def]
    horizontal = vertical = False
    if cfg.INPUT.AUG.ROT90:
        turns = int(rng.integers(4))
        image, masks = np.rot90(image, turns), np.rot90(masks, turns, axes=(1, 2))
        horizontal = rng.random() < 0.5
    elif cfg.INPUT.RANDOM_FLIP != "none":
        flip = rng.random() < 0.5
        horizontal, vertical = (
            flip and cfg.INPUT.RANDOM_FLIP == "horizontal",
            flip and cfg.INPUT.RANDOM_FLIP == "vertical",
        )
    if horizontal:
        image, masks = image[:, ::-1], masks[:, :, ::-1]
    if vertical:
        image, masks = image[::-1], masks[:, ::-1]
    return image.copy(), masks.copy()  # one pixel wide they count as contiguous though a stride is negative


def _rotate(image: np.ndarray, masks: np.ndarray, degrees: float) -> tuple[np.ndarray, np.ndarray]:
    """Rotate about the centre; corners are filled with the median colour, which in a smear is the empty ground."""
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1.0)
    ground = np.median(image.reshape(-1, 3), axis=0).tolist()
    image = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=ground)
    turned = [cv2.warpAffine(mask, matrix, (width, height), flags=cv2.INTER_NEAREST) for mask in masks]
    return image, np.stack(turned) if turned else masks


def _recolour(image: np.ndarray, cfg: CfgNode, rng: np.random.Generator) -> np.ndarray:
    aug = cfg.INPUT.AUG
    adjustments = (
        (F.adjust_brightness, aug.BRIGHTNESS, 1.0),
        (F.adjust_contrast, aug.CONTRAST, 1.0),
        (F.adjust_saturation, aug.SATURATION, 1.0),
        (F.adjust_hue, aug.HUE, 0.0),
    )
    tensor = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))
    for adjust, spread, centre in adjustments:
        if spread:
            tensor = adjust(tensor, centre + rng.uniform(-spread, spread))
    return tensor.numpy().transpose(1, 2, 0)


def _photographed(image: np.ndarray, cfg: CfgNode, rng: np.random.Generator) -> np.ndarray:
    """By another laboratory: its stain and focus, light from one side, another compression."""
    aug = cfg.INPUT.AUG
    if not (aug.STAIN or aug.BLUR or aug.SHADE or aug.JPEG):
        return image
    light = torch.from_numpy(image.astype(np.float32) / 255).permute(2, 0, 1)[None]
    generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
    if rng.random() < aug.STAIN:
        light = restained(light, generator)
    light = blurred(light, generator, aug.BLUR)
    image = light[0].permute(1, 2, 0).numpy() * _shade(image.shape[:2], aug.SHADE, rng)
    image = np.clip(np.rint(image * 255), 0, 255).astype(np.uint8)
    if rng.random() < aug.JPEG:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(*JPEG_QUALITY))]
        image = np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, quality)[1], cv2.IMREAD_COLOR))
    return image


def _shade(size: tuple[int, int], most: float, rng: np.random.Generator) -> np.ndarray:
    """Relative light (h, w, 1) float32 that falls evenly in a random direction, by up to `most`."""
    angle, fall = rng.uniform(0, 2 * np.pi), rng.uniform(0, most)
    y, x = (np.linspace(-1, 1, length, dtype=np.float32) for length in size)
    along = (np.cos(angle) * x[None] + np.sin(angle) * y[:, None]) / np.sqrt(2)
    return (1 - fall * (along + 1) / 2)[..., None].astype(np.float32)
