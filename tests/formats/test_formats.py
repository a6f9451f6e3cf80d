"""Files are whole or absent, and a broken one is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, PngImagePlugin

from segbench.core import files
from segbench.core.errors import DataError
from segbench.formats import label_maps as formats


@given(hnp.arrays(np.int64, (3, 5), elements=st.integers(0, 2**24 - 1)))
def test_panoptic_ids_round_trip(ids):
    rgb = formats.id2rgb(ids)
    assert rgb.dtype == np.uint8
    assert (formats.rgb2id(rgb) == ids).all()
    red, green, blue = rgb[0, 0].tolist()
    assert ids[0, 0] == red + 256 * green + 65536 * blue


@pytest.mark.parametrize("top", [11, 255, 300, 65535])
def test_label_map_round_trip(tmp_path, top):
    labels = np.array([[0, 1], [2, top]])
    formats.write_label_map(tmp_path / "a" / "m.png", labels)
    read = formats.read_label_map(tmp_path / "a" / "m.png")
    assert (read == labels).all()
    assert read.dtype == (np.uint8 if top <= 255 else np.uint16)


def test_palette_png_gives_indices(tmp_path):
    image = Image.new("P", (2, 1))
    image.putdata([0, 3])
    image.putpalette([9, 9, 9] * 256)
    image.save(tmp_path / "p.png")
    assert formats.read_label_map(tmp_path / "p.png").tolist() == [[0, 3]]


@pytest.mark.fault(15)
def test_colour_image_is_no_label_map(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png.*one-channel"):
        formats.read_label_map(tmp_path / "c.png")


def test_grey_image_is_no_panoptic_map(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png.*RGB"):
        formats.read_panoptic_ids(tmp_path / "c.png")


@pytest.mark.parametrize("damage", ["truncate", "empty", "text", "missing"])
@pytest.mark.fault(14)
def test_broken_image_is_named(tmp_path, damage):
    path = tmp_path / "broken.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)).save(path)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes({"truncate": data[:-200], "empty": b"", "text": b"<html>"}[damage])
    for read in (formats.read_image, formats.read_label_map, formats.read_panoptic_ids):
        with pytest.raises(DataError, match=r"broken\.png"):
            read(path)


@pytest.mark.fault(21)
def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    files.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), files.atomic_open(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert files.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


@pytest.mark.fault(21)
def test_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "_sync", full)
    with pytest.raises(DataError, match="No space left on device"):
        files.write_text(tmp_path / "x", "text")
    assert list(tmp_path.iterdir()) == []


def test_broken_json_lines_are_numbered(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a":\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        files.read_jsonl(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="does not exist"):
        files.read_json(tmp_path / "no.json")


def test_numpy_values_become_json(tmp_path):
    files.write_json(tmp_path / "n.json", {"a": np.float64(0.5), "b": np.arange(2)})
    assert files.read_json(tmp_path / "n.json") == {"a": 0.5, "b": [0, 1]}


def pillow(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "I;16", "tRNS", "gamma"])
def test_both_png_decoders_agree(tmp_path, loops, mode):
    rng = np.random.default_rng(3)
    path = tmp_path / "m.png"
    for height, width in rng.integers(1, 70, (20, 2)).tolist():
        colours = np.repeat(rng.integers(0, 256, (height, width, 3), np.uint8), 3, axis=1)
        image = Image.fromarray(colours if mode == "RGB" else colours[..., 0])
        options = {"transparency": 3} if mode == "tRNS" else {}
        if mode == "I;16":
            image = Image.fromarray(colours[..., 0].astype(np.uint16) * 257)
        if mode == "P":
            image = image.quantize(9)
        if mode == "gamma":
            options["pnginfo"] = gamma_chunk()
        image.save(path, **options)
        expected = pillow(path)
        if mode == "RGB":
            wide = expected.astype(np.int64)
            ids = wide[..., 0] + 256 * wide[..., 1] + 65536 * wide[..., 2]
            assert (formats.read_panoptic_ids(path) == ids).all()
        else:
            read = formats.read_label_map(path)
            assert read.dtype == expected.dtype
            assert (read == expected).all()


def gamma_chunk():
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", (100_000).to_bytes(4, "big"))
    return info


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.fault(14)
def test_no_flipped_bit_or_missing_end_passes(tmp_path, loops, mode):
    rng = np.random.default_rng(4)
    path = tmp_path / "m.png"
    blocks = rng.integers(0, 256, (6, 6, 3), np.uint8).repeat(9, 0).repeat(9, 1)
    Image.fromarray(blocks if mode == "RGB" else blocks[..., 0]).save(path)
    read = formats.read_panoptic_ids if mode == "RGB" else formats.read_label_map
    data = path.read_bytes()
    begin, end = data.index(b"IDAT") + 4, len(data) - 16
    for place in rng.integers(begin, end, 60).tolist():
        broken = bytearray(data)
        broken[place] ^= 1 << int(rng.integers(0, 8))
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"m\.png cannot be read"):
            read(path)
        path.write_bytes(data[:place])
        with pytest.raises(DataError, match=r"m\.png cannot be read"):
            read(path)
