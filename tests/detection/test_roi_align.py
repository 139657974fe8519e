import pytest
import torch
from torchvision.ops import roi_align as torchvision_roi_align

from cellfeat.detection.roi_align import roi_align, roi_align_into


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("size", "sampling_ratio"), [(7, 0), (14, 0), (7, 2)])
def test_it_is_torchvisions(size, sampling_ratio, layout):
    generator = torch.Generator().manual_seed(size)
    features = torch.randn(3, 8, 20, 26, generator=generator).contiguous(memory_format=layout)
    corners = torch.rand(200, 2, generator=generator) * torch.tensor([130.0, 110.0]) - 20  # some begin outside
    sides = torch.rand(200, 2, generator=generator) ** 3 * 300
    rois = torch.cat([torch.randint(3, (200, 1), generator=generator), corners, corners + sides], dim=1)
    odd = [[1, 8.0, 8, 8, 40], [2, 30.0, 30, 10, 10], [0, -90.0, -90, -50, -60], [1, 0.0, 0, 104, 80]]
    rois = torch.cat([rois, torch.tensor(odd)])  # no width, turned round, outside, the whole image
    expected = torchvision_roi_align(features, rois, size, 0.25, sampling_ratio, aligned=True)
    torch.testing.assert_close(roi_align(features, rois, size, 0.25, sampling_ratio), expected, atol=1e-4, rtol=0)


def test_no_boxes_and_boxes_that_are_no_numbers():
    features = torch.ones(1, 4, 8, 8)
    assert roi_align(features, torch.zeros(0, 5), 7, 0.25).shape == (0, 4, 7, 7)
    rois = torch.tensor([[0, float("nan"), 0, 8, 8], [0, 0.0, 0, float("inf"), 8], [0, 4.0, 4, 20, 20]])
    out = roi_align(features, rois, 7, 0.25)
    assert out.isfinite().all()
    torch.testing.assert_close(out[2], torch.ones(4, 7, 7))


def test_it_fills_the_rows_that_are_named():
    features, out = torch.randn(1, 4, 16, 16), torch.full((5, 4, 7, 7), -1.0)
    rois = torch.tensor([[0, 3.0, 5, 47, 50], [0, 0.0, 0, 64, 60], [0, 8.0, 8, 8, 40]])
    roi_align_into(out, torch.tensor([4, 0, 2]), features, rois, 0.25)
    torch.testing.assert_close(out[[4, 0, 2]], roi_align(features, rois, 7, 0.25), atol=0, rtol=0)
    assert (out[[1, 3]] == -1).all()


def test_features_in_bf16_are_summed_in_float32():
    features = torch.randn(1, 4, 16, 16).bfloat16()
    rois = torch.tensor([[0, 3.0, 5, 47, 50]])
    out = roi_align(features, rois, 7, 0.25)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, torchvision_roi_align(features.float(), rois, 7, 0.25, 0, aligned=True))
