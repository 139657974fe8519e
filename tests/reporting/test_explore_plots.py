from __future__ import annotations

import numpy as np
import pytest

from cellfeat.reporting import explore_plots

COUNTS = {("blast", "a"): 3, ("lymphocyte", "b"): 1200, ("", "b"): 2}


@pytest.fixture(autouse=True)
def figures(monkeypatch):
    """The functions return their figures rather than PNGs."""
    monkeypatch.setattr(explore_plots, "png_bytes", lambda figure: figure)


def test_bars_are_the_counts_and_unlabelled_cells_stand_last():
    panels = explore_plots.class_bars(COUNTS).axes
    assert [axes.get_title() for axes in panels] == ["a\n3 cells", "b\n1,202 cells"]
    names = [text.get_text() for text in panels[0].get_yticklabels()]
    assert names[::-1] == ["blast", "lymphocyte", "no label"]  # from top to bottom
    assert [bar.get_width() for bar in panels[0].patches][::-1] == [3, 0, 0]
    assert [bar.get_width() for bar in panels[1].patches][::-1] == [0, 1200, 2]
    assert "1,200" in [text.get_text() for text in panels[1].texts]


def test_mean_images_lie_in_the_row_of_their_class_and_the_column_of_their_domain():
    mean = {group: np.full((4, 4, 3), 10.6 * k) for k, group in enumerate(COUNTS)}
    [axes] = explore_plots.mean_images(mean, COUNTS).axes
    rows, columns = axes.get_yticks(), axes.get_xticks()
    order = ["blast", "lymphocyte", ""]
    assert len(axes.images) == len(COUNTS)
    for (label, domain), image, number in zip(COUNTS, axes.images, axes.texts):
        left, right, bottom, top = image.get_extent()
        assert left < columns["ab".index(domain)] < right
        assert top < rows[order.index(label)] < bottom
        assert bottom < number.get_position()[1]
        assert number.get_text() == f"{COUNTS[label, domain]:,}"
        assert (np.asarray(image.get_array()) == np.rint(mean[label, domain])).all()


def test_curves_are_percent_and_a_domain_without_masks_has_none():
    share = np.full((3, 4), 0.25)
    figure = explore_plots.colour_histograms({"a": share, "b": share}, {"a": share, "b": share * np.nan})
    figure.draw_without_rendering()
    red, red_in_mask = figure.axes[:2]
    assert [patch.get_data().values.tolist() for patch in red.patches] == [[25] * 4] * 2
    assert [np.isnan(patch.get_data().values).all() for patch in red_in_mask.patches] == [False, True]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["a", "b"]


def test_colours_of_a_store_without_any_mask_can_be_drawn():
    share = np.full((3, 4), 0.25)
    explore_plots.colour_histograms({"a": share}, {"a": share * np.nan}).draw_without_rendering()


@pytest.mark.parametrize("stretch", [(1, 4, 2), (1, 0, 3), (0, 0, 0)])
def test_axes_of_three_dimensions_have_one_scale_and_hold_every_point(stretch):
    xyz = np.random.default_rng(0).uniform(-1, 1, (30, 3)) * stretch + 7
    figure = explore_plots.scatter_3d(xyz, np.array(["a", "b"] * 15), np.array(["", "blast", "monocyte"] * 10))
    figure.draw_without_rendering()
    assert len({axes.azim for axes in figure.axes}) == 2
    for axes in figure.axes:
        limits = np.array([axes.get_xlim(), axes.get_ylim(), axes.get_zlim()])
        scale = axes._box_aspect / np.ptp(limits, axis=1)
        np.testing.assert_allclose(scale, scale[0])
        assert (limits[:, 0] <= xyz.min(axis=0)).all()
        assert (limits[:, 1] >= xyz.max(axis=0)).all()
