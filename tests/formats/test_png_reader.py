"""The compiled PNG reader gives the pixels of Pillow or leaves the file to it."""

import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from segbench.core.errors import DataError
from segbench.formats import kernel_loading as speed
from segbench.formats import label_maps as formats
from segbench.formats import png_decoder as png_reader
from tests.formats import png_files
from tests.formats.png_files import GREY, GREY_ALPHA, PALETTE, RGB, RGBA, png


@pytest.fixture(autouse=True)
def compiled(monkeypatch, compiled_loops):
    monkeypatch.setattr(speed, "loaded", compiled_loops)


@st.composite
def label_maps(draw, channels=1):
    """Blocks of a few values, some bytes changed: runs, and what interrupts them."""
    height, width = draw(st.integers(1, 24)), draw(st.integers(1, 70))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    tall, wide = draw(st.integers(1, 9)), draw(st.integers(1, 40))
    cells = rng.integers(0, draw(st.sampled_from([2, 5, 256])), (height, width, channels))
    blocks = cells[::tall, ::wide].repeat(tall, 0).repeat(wide, 1)[:height, :width]
    changed = rng.random(blocks.shape) < draw(st.sampled_from([0, 0.02, 0.5]))
    return np.where(changed, rng.integers(0, 256, blocks.shape), blocks).astype(np.uint8)


kinds = st.lists(st.integers(0, 4), min_size=1, max_size=6)


@settings(deadline=None)
@given(label_maps(), kinds, st.sampled_from([GREY, PALETTE]), st.integers(1, 3))
def test_numbers_of_every_filter(pixels, kinds, colour_type, parts):
    data = png(pixels, colour_type, kinds=kinds, parts=parts)
    read = png_reader.decode(data, rgb=False)
    assert read.dtype == np.uint8
    assert (read == pixels[..., 0]).all()
    assert png_reader.decode(data, rgb=True) is None


@settings(deadline=None)
@given(label_maps(channels=3), kinds, st.integers(1, 3))
def test_segment_ids_of_every_filter(pixels, kinds, parts):
    data = png(pixels, RGB, kinds=kinds, parts=parts)
    read = png_reader.decode(data, rgb=True)
    assert read.dtype == np.int32
    assert (read == pixels.astype(np.int64) @ [1, 256, 65536]).all()
    assert png_reader.decode(data, rgb=False) is None


def pillow(path):
    with Image.open(path) as image:
        return np.asarray(image)


FORMS = [(GREY, 1), (GREY, 2), (GREY, 4), (GREY, 8), (GREY, 16), (PALETTE, 1), (PALETTE, 2)]
FORMS += [(PALETTE, 4), (PALETTE, 8), (RGB, 8), (RGB, 16), (GREY_ALPHA, 8), (RGBA, 8), (RGBA, 16)]


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("colour_type", "depth"), FORMS)
def test_every_form_reads_as_by_pillow_or_is_refused(tmp_path, colour_type, depth, interlaced):
    rng = np.random.default_rng(depth + colour_type)
    path = tmp_path / "m.png"
    for height, width in rng.integers(1, 30, (8, 2)).tolist():
        shape = (height, width, png_files.CHANNELS[colour_type])
        pixels = rng.integers(0, 2**depth, shape)
        options = {"kinds": (4, 1, 2, 3, 0), "depth": depth, "interlaced": interlaced}
        path.write_bytes(png(pixels, colour_type, **options))
        expected = pillow(path)
        if colour_type == RGB and depth == 8:
            assert (expected == pixels).all()
            ids = expected.astype(np.int64) @ [1, 256, 65536]
            assert (formats.read_panoptic_ids(path) == ids).all()
        elif colour_type in (GREY, PALETTE) and (colour_type, depth) != (GREY, 1):
            read = formats.read_label_map(path)
            assert read.dtype == expected.dtype
            assert (read == expected).all()
            assert depth in (2, 4) or (read == pixels[..., 0]).all()
        else:
            with pytest.raises(DataError, match="expected"):
                formats.read_label_map(path)


@pytest.mark.parametrize("colour_type", [GREY, PALETTE, RGB])
@pytest.mark.fault(14)
def test_every_flipped_bit_is_refused(tmp_path, colour_type):
    rng = np.random.default_rng(4)
    blocks = rng.integers(0, 256, (2, 3, png_files.CHANNELS[colour_type])).repeat(9, 0)
    data = png(blocks.repeat(7, 1), colour_type, kinds=(1, 4, 2), parts=2)
    path = tmp_path / "m.png"
    read = formats.read_panoptic_ids if colour_type == RGB else formats.read_label_map
    for place in range(8, len(data)):
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(0, 8))
        assert png_reader.decode(bytes(broken), rgb=colour_type == RGB) is None
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"m\.png"):
            read(path)
    for place in range(8, len(data)):
        assert png_reader.decode(data[:place], rgb=colour_type == RGB) is None


GOOD = np.arange(12, dtype=np.uint8).reshape(3, 4)


def wrong_header(data, place, value):
    changed = bytearray(data)
    changed[place] = value
    return bytes(changed[:8]) + png_files.chunk(b"IHDR", bytes(changed[16:29])) + data[33:]


def without(data, kind):
    begin = data.index(kind) - 4
    return data[:begin] + data[begin + 12 + int.from_bytes(data[begin : begin + 4], "big") :]


def png_with_data(raw):
    data = png_files.chunk(b"IDAT", zlib.compress(raw))
    return png(GOOD, GREY)[:33] + data + png_files.chunk(b"IEND", b"")


DOUBTFUL = {
    "no PNG": b"GIF89a",
    "one row more": wrong_header(png(GOOD, GREY), 23, 4),
    "one row less": wrong_header(png(GOOD, GREY), 23, 2),
    "no width": wrong_header(png(GOOD, GREY), 19, 0),
    "a width of 2^31": wrong_header(png(GOOD, GREY), 16, 128),
    "compression of another kind": wrong_header(png(GOOD, GREY), 26, 1),
    "filters of another kind": wrong_header(png(GOOD, GREY), 27, 1),
    "filter 5": png_with_data(bytes([5, 0, 0, 0, 0]) * 3),
    "too few bytes": png_with_data(bytes(14)),
    "too many bytes": png_with_data(bytes(16)),
    "no zlib stream": without(png(GOOD, GREY), b"IDAT")[:33]
    + png_files.chunk(b"IDAT", bytes(40))
    + png_files.chunk(b"IEND", b""),
    "no palette": without(png(GOOD, PALETTE), b"PLTE"),
    "two palettes": png(GOOD, PALETTE, extra=[(b"PLTE", bytes(6))]),
    "no data": without(png(GOOD, GREY), b"IDAT"),
    "no end": without(png(GOOD, GREY), b"IEND"),
    "an unknown critical chunk": png(GOOD, GREY, extra=[(b"ABCD", b"")]),
    "significant bits": png(GOOD, GREY, extra=[(b"sBIT", b"\x04")]),
    "a second header": png(GOOD, GREY, extra=[(b"IHDR", bytes(13))]),
}


@pytest.mark.parametrize("name", [*DOUBTFUL])
def test_doubtful_files_are_left_to_others(name):
    assert png_reader.decode(png(GOOD, GREY), rgb=False) is not None
    assert png_reader.decode(DOUBTFUL[name], rgb=False) is None


def test_harmless_chunks_do_not_slow_a_file_down():
    extra = [(b"gAMA", bytes(4)), (b"tEXt", b"a\x00b"), (b"tRNS", b"\x00\x03")]
    assert (png_reader.decode(png(GOOD, GREY, extra=extra), rgb=False) == GOOD).all()


def test_a_small_file_does_not_claim_memory():
    huge = wrong_header(wrong_header(png(GOOD, GREY), 17, 15), 21, 15)
    assert png_reader.decode(huge, rgb=False) is None


def test_without_compiled_loops_nothing_is_decoded(monkeypatch):
    monkeypatch.setattr(speed, "loaded", None)
    assert png_reader.decode(png(GOOD, GREY), rgb=False) is None
