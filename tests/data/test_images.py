import os
import pickle

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from cellfeat.data import images
from cellfeat.data.images import UnreadableImage, image_orientation, image_size, read_grey, read_rgb

RGB = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def save(path, array, mode=None, **options):
    image = Image.fromarray(array) if mode is None else Image.fromarray(array).convert(mode)
    image.save(path, **options)
    return path


def test_rgb_comes_back_unchanged(tmp_path):
    for suffix in ("png", "bmp", "tiff"):
        read = read_rgb(save(tmp_path / f"a.{suffix}", RGB))
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, RGB)


def test_grey_is_repeated_in_three_channels(tmp_path):
    read = read_rgb(save(tmp_path / "a.png", RGB[..., 0]))
    np.testing.assert_array_equal(read, np.repeat(RGB[..., :1], 3, axis=2))


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_sixteen_bit_keeps_the_high_byte(tmp_path, suffix):
    grey = np.array([[0, 255, 256, 65535]], dtype=np.uint16)
    read = read_rgb(save(tmp_path / f"a.{suffix}", grey))
    np.testing.assert_array_equal(read[..., 1], [[0, 0, 1, 255]])


@pytest.fixture
def said(caplog):
    images._say.cache_clear()
    return caplog


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_fewer_bits_in_sixteen_are_scaled_and_said_once(tmp_path, suffix, bits, said):
    rgb = RGB.astype(np.uint16) << (bits - 8)
    rgb[0, 0] = (1 << bits) - 1
    grey = save(tmp_path / f"grey.{suffix}", rgb[..., 0])
    cv2.imwrite(str(tmp_path / f"colour.{suffix}"), rgb[..., ::-1])
    expected = RGB.copy()
    expected[0, 0] = 255
    for _ in range(2):
        np.testing.assert_array_equal(read_rgb(tmp_path / f"colour.{suffix}"), expected)
        np.testing.assert_array_equal(read_rgb(grey)[..., 1], expected[..., 0])
    assert len(said.records) == (bits < 16)


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_stated_bits_count_whatever_the_values(tmp_path, bits, said):
    deep = RGB.astype(np.uint16) << (bits - 8)
    dark = deep >> 3  # no value reaches half of the scale
    cv2.imwrite(str(tmp_path / "colour.png"), dark[..., ::-1])
    np.testing.assert_array_equal(read_rgb(tmp_path / "colour.png", bits=bits), RGB >> 3)
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "a.tif", deep[..., 0]), bits=bits)[..., 2], RGB[..., 0])
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "a.png", RGB), bits=bits), RGB)  # a file of 8 bits
    assert not said.records
    deep[0, 0] = 1 << bits
    with pytest.raises(UnreadableImage, match="values beyond the bits"):
        read_rgb(save(tmp_path / "b.png", deep[..., 0]), bits=bits)


def test_deep_colour_with_alpha(tmp_path):
    bgra = np.zeros((2, 2, 4), np.uint16)
    bgra[...] = (10 << 8, 20 << 8, 30 << 8, 65535)
    bgra[0, 0, 3] = 0
    cv2.imwrite(str(tmp_path / "a.png"), bgra)
    assert read_rgb(tmp_path / "a.png")[:, 0].tolist() == [[255, 255, 255], [30, 20, 10]]


@pytest.mark.parametrize(("suffix", "alpha"), [("png", 0), ("png", 1), ("tiff", 0), ("webp", 0)])
def test_alpha_of_one_value_everywhere_keeps_the_colours(tmp_path, suffix, alpha, said):
    rgba = np.dstack([RGB, np.full(RGB.shape[:2], alpha, np.uint8)])
    options = {"lossless": True, "exact": True} if suffix == "webp" else {}
    np.testing.assert_array_equal(read_rgb(save(tmp_path / f"a.{suffix}", rgba, **options)), RGB)
    assert "alpha channel" in said.text


def test_three_grey_pages_are_colours(tmp_path, said):
    def pages(name, arrays, **options):
        first, *rest = [Image.fromarray(array) for array in arrays]
        first.save(tmp_path / name, save_all=True, append_images=rest, **options)
        return read_rgb(tmp_path / name)

    bands = [RGB[..., k] for k in range(3)]
    np.testing.assert_array_equal(pages("rgb.tif", bands), RGB)
    np.testing.assert_array_equal(pages("deep.tif", [band.astype(np.uint16) * 257 for band in bands]), RGB)
    assert len(said.records) == 1
    dark = [bands[0].astype(np.uint16) * 16, *(np.full_like(bands[0], 100, np.uint16) for _ in range(2))]
    assert pages("dark.tif", dark)[..., 1].max() == 6  # of 12 bits as the first page, though it needs 8 alone
    grey = np.repeat(RGB[..., :1], 3, axis=2)
    for name, arrays, options in (
        ("z.tif", bands, {"description": "ImageJ=1.53\nimages=3\nslices=3\n"}),
        ("two.tif", bands[:2], {}),
        ("four.tif", [*bands, bands[0]], {}),
        ("sizes.tif", [bands[0], bands[1], bands[2][:3]], {}),
    ):
        np.testing.assert_array_equal(pages(name, arrays, **options), grey)
    assert "the first page is read" in said.text
    np.testing.assert_array_equal(read_grey(tmp_path / "rgb.tif"), RGB[..., 0])


def test_deep_colours_in_separate_planes_are_refused(tmp_path):
    for bits, planes in ((8, RGB), (16, RGB.astype(np.uint16) << 8)):
        path = tmp_path / f"{bits}.tif"
        tifffile.imwrite(path, np.moveaxis(planes, -1, 0), photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_rgb(tmp_path / "8.tif"), RGB)
    with pytest.raises(UnreadableImage, match="16 bits in separate planes"):
        read_rgb(tmp_path / "16.tif")


def test_transparency_is_laid_on_white(tmp_path):
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = [0, 255, 51]  # clear, opaque, one fifth
    np.testing.assert_array_equal(read_rgb(save(tmp_path / "a.png", rgba))[0, :, 0], [255, 0, 204])


def test_palette_with_a_transparent_colour_is_laid_on_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=0)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), [[[255, 255, 255], [200, 0, 0]]])


def test_cmyk_is_converted(tmp_path):
    path = tmp_path / "a.tiff"
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(path)  # magenta and yellow make red
    np.testing.assert_array_equal(read_rgb(path)[0, 0], [255, 0, 0])


def test_first_page_of_several(tmp_path):
    pages = [Image.fromarray(RGB), Image.fromarray(255 - RGB)]
    pages[0].save(tmp_path / "a.tiff", save_all=True, append_images=pages[1:])
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.tiff"), RGB)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_stored_raster_is_read_whatever_the_orientation(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", RGB, exif=exif)
    np.testing.assert_array_equal(read_rgb(path), RGB)
    assert read_grey(path).shape == RGB.shape[:2]
    assert image_size(path) == RGB.shape[:2]
    assert image_orientation(path) == orientation


def test_grey_mask_ignores_transparency(tmp_path):
    rgba = np.full((2, 2, 4), 155, dtype=np.uint8)
    rgba[..., 3] = 0
    np.testing.assert_array_equal(read_grey(save(tmp_path / "a.png", rgba)), np.full((2, 2), 155))


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tiff"])
def test_truncated_image_is_refused(tmp_path, suffix):
    noise = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UnreadableImage, match=str(path)):
        read_rgb(path)


def test_too_large_is_refused_from_the_header(tmp_path):
    path = save(tmp_path / "a.bmp", RGB)
    path.write_bytes(path.read_bytes()[:60])  # decoding would fail otherwise
    with pytest.raises(UnreadableImage, match=r"8 x 6 px, more than 47; tile it first"):
        read_rgb(path, max_pixels=47)


def test_an_empty_picture_of_enormous_size_is_refused(tmp_path):
    path = tmp_path / "a.png"
    Image.new("1", (4000, 4000)).save(path)
    with pytest.raises(UnreadableImage, match="more than 200 pixels a byte"):
        read_rgb(path)
    assert read_grey(path).shape == (4000, 4000)  # a mask may be empty


@pytest.mark.parametrize("read", [read_rgb, read_grey])
def test_a_jpeg_of_thousands_of_scans_is_refused(tmp_path, read):
    path = tmp_path / "a.jpg"
    Image.new("RGB", (64, 64), "red").save(path, progressive=True)
    assert read(path).shape[:2] == (64, 64)
    head, *scans = path.read_bytes().split(b"\xff\xda")
    path.write_bytes(b"\xff\xda".join([head, *scans[:1] * 2000, scans[-1]]))
    with pytest.raises(UnreadableImage, match="more than 100 scans"):
        read(path)


def test_other_formats_are_not_opened_whatever_their_name(tmp_path):
    for name, content in (
        ("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"),
        ("gif", b"GIF89a" + bytes(20)),
    ):
        (tmp_path / f"{name}.png").write_bytes(content)
        with pytest.raises(UnreadableImage, match="not an image file that is read"):
            read_rgb(tmp_path / f"{name}.png")
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(UnreadableImage, match="a pipe or a device"):
            read_rgb(path)


def test_reasons_hold_neither_path_nor_numbers(tmp_path):
    reasons = set()
    for name, cut in (("a.png", 60), ("b.png", 70)):
        path = save(tmp_path / name, np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[:-cut])
        with pytest.raises(UnreadableImage) as error:
            read_rgb(path)
        reasons.add(error.value.reason)
    assert reasons == {"truncated"}


def test_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", RGB)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(UnreadableImage, match="more pixels than Pillow opens"):
        read_rgb(path)


def test_floating_point_and_wide_integers_are_refused(tmp_path):
    with pytest.raises(UnreadableImage, match="floating-point"):
        read_rgb(save(tmp_path / "f.tiff", np.zeros((2, 2), dtype=np.float32)))
    with pytest.raises(UnreadableImage, match="beyond 16 bits"):
        read_rgb(save(tmp_path / "i.tiff", np.full((2, 2), 70000, dtype=np.int32)))


def test_files_that_are_no_images(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    cases = {"missing.png": "no such file", "empty.png": "empty file", "text.png": "not an image file", ".": "a folder"}
    for name, reason in cases.items():
        with pytest.raises(UnreadableImage, match=reason) as caught:
            read_rgb(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*_):
        raise PermissionError("denied")

    monkeypatch.setattr(Image, "open", refuse)
    with pytest.raises(UnreadableImage, match="no permission"):
        read_rgb(tmp_path / "a.png")


def test_error_carries_its_reason_through_a_pickle(tmp_path):
    error = pickle.loads(pickle.dumps(UnreadableImage(tmp_path / "a.png", "empty file")))
    assert error.reason == "empty file"
    assert str(error).endswith("a.png: empty file")
