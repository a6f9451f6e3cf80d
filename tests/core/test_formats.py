"""Files are whole or absent, and a broken one is named."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from segbench import formats
from segbench.errors import DataError


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


def test_colour_image_is_no_label_map(tmp_path):
    Image.new("RGB", (2, 2)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png.*one-channel"):
        formats.read_label_map(tmp_path / "c.png")


def test_grey_image_is_no_panoptic_map(tmp_path):
    Image.new("L", (2, 2)).save(tmp_path / "c.png")
    with pytest.raises(DataError, match=r"c\.png.*RGB"):
        formats.read_panoptic_ids(tmp_path / "c.png")


@pytest.mark.parametrize("damage", ["truncate", "empty", "text", "missing"])
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


def test_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "x.json"
    formats.write_json(path, {"a": 1})
    with pytest.raises(ValueError, match="not JSON compliant"):
        formats.write_json(path, {"a": float("nan")})
    with pytest.raises(RuntimeError), formats.atomic_open(path) as stream:
        stream.write(b"half")
        raise RuntimeError
    assert formats.read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    def full(path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(formats, "_sync", full)
    with pytest.raises(DataError, match="No space left on device"):
        formats.write_text(tmp_path / "x", "text")
    assert list(tmp_path.iterdir()) == []


def test_broken_json_lines_are_numbered(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n{"a":\n')
    with pytest.raises(DataError, match=r"a\.jsonl:2"):
        formats.read_jsonl(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="does not exist"):
        formats.read_json(tmp_path / "no.json")


def test_numpy_values_become_json(tmp_path):
    formats.write_json(tmp_path / "n.json", {"a": np.float64(0.5), "b": np.arange(2)})
    assert formats.read_json(tmp_path / "n.json") == {"a": 0.5, "b": [0, 1]}
