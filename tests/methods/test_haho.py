"""The HAHO challenge article's preprocessing list, value by value."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from cellfeat.methods import build
from cellfeat.methods.augmentation import BoxBlur, Flip, Haze, MirroredRotation, RandomScale, haho


def test_the_articles_ten_changes_in_its_order():
    frame, centre, random, blur, fog, colour, flip, rotation, scale, last = haho().transforms
    assert list(frame.size) == [360]
    assert list(centre.size) == [345, 345]
    assert list(random.size) == [224, 224]
    sometimes = [blur, fog, colour, flip, rotation, scale]
    assert [change.p for change in sometimes] == [0.5] * 6
    blur, fog, colour, flip, rotation, scale = (change.transforms[0] for change in sometimes)
    assert isinstance(blur, BoxBlur)
    assert blur.limit == (3, 7)
    assert isinstance(fog, Haze)
    assert (fog.coefficient, fog.alpha) == ((0.3, 1.0), 0.08)
    assert isinstance(colour, v2.ColorJitter)
    assert list(colour.brightness) == [0.7, 1.3]
    assert list(colour.contrast) == list(colour.saturation) == [0.5, 1.5]
    assert colour.hue is None or list(colour.hue) == [0.0, 0.0]
    assert isinstance(flip, Flip)
    assert isinstance(rotation, MirroredRotation)
    assert rotation.limit == 180
    assert isinstance(scale, RandomScale)
    assert scale.limit == 0.2
    assert list(last.size) == [224, 224]


def test_the_preset_is_the_article():
    config = build("mdd", {"preset": "haho"}).config
    assert (config.augmentation, config.size, config.model) == ("haho", 224, "resnet18")
    assert (config.margin, config.trade_off) == (4, 1)
    assert (config.batch_size, config.epochs, config.lr, config.lr_epochs) == (32, 50, 0.001, 20)
    assert build("mdd", {"preset": "haho", "size": 64}).config.size == 64


@pytest.mark.parametrize("change", [BoxBlur((3, 7)), Flip(), MirroredRotation(180), RandomScale(0.2)])
def test_a_plain_image_stays_plain(change):
    torch.manual_seed(0)
    assert (change(torch.full((3, 24, 24), 90, dtype=torch.uint8)) == 90).all()


def test_the_same_seed_changes_an_image_in_the_same_way():
    image = torch.randint(0, 256, (3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    made = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        made.append(haho(32)(image))
    assert made[0].shape == (3, 32, 32)
    assert made[0].dtype == torch.uint8
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])


def test_haze_whitens_the_middle_most():
    torch.manual_seed(0)
    image = torch.full((3, 224, 224), 100, dtype=torch.uint8)
    fogged = np.mean([Haze((1.0, 1.0), 0.08)(image).numpy() for _ in range(5)], axis=(0, 1))
    assert (fogged >= 100).all()
    assert fogged[90:134, 90:134].mean() > fogged[:8].mean() + 5


def test_a_blur_averages_its_neighbourhood():
    image = torch.zeros(3, 9, 9, dtype=torch.uint8)
    image[:, 4, 4] = 90
    blurred = BoxBlur((3, 3))(image)
    assert (blurred[:, 3:6, 3:6] == 10).all()
    assert blurred.sum() == 3 * 90
