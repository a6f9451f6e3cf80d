"""An image is measured before it is decoded: a small file never takes the memory of a large one."""

import io
import struct
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from segbench.core.errors import ConfigError, DataError
from segbench.evaluation.counts import load_counts
from segbench.evaluation.protocol import get_protocol
from segbench.evaluation.semantic.folders import count_folder
from segbench.formats import kernel_loading as speed
from segbench.formats.image_size import LIMIT_VARIABLE, MAX_PIXELS, WrongSize
from segbench.formats.label_maps import (
    read_image,
    read_label_map,
    read_panoptic_ids,
    write_label_map,
)

READERS = {"image": read_image, "labels": read_label_map, "panoptic": read_panoptic_ids}
WIDE = 11_000
KINDS = {
    "grey": (8, 0), "rgb": (8, 2), "palette": (8, 3), "grey alpha": (8, 4), "rgb alpha": (8, 6),
    "deep grey": (16, 0), "deep rgb": (16, 2), "bits": (1, 0),
}  # fmt: skip


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def bomb(path: Path, *, depth: int, colour: int, side: int = WIDE) -> Path:
    """Write a PNG of zeros, whole and right, of ``side`` x ``side`` pixels.

    Other kinds than 8-bit grey and RGB hold the first part of theirs: it takes time to pack them.
    """
    part = side if (depth, colour) in ((8, 0), (8, 2)) else side // 20
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    row = bytes(1 + -(-side * bits // 8))
    packer = zlib.compressobj(9)
    rows = max(1, 4_000_000 // len(row))
    body = b"".join(packer.compress(row * rows) for _ in range(part // rows))
    body += packer.compress(row * (part % rows)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(6)) if colour == 3 else b""
    parts = [chunk(b"IHDR", header), palette, chunk(b"IDAT", body), chunk(b"IEND", b"")]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    return path


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs")
    return {
        name: bomb(folder / f"{name}.png", depth=depth, colour=colour)
        for name, (depth, colour) in KINDS.items()
    }


@pytest.fixture
def small_memory():
    """Fail a test whose Python and NumPy memory rises by more than 20 MiB."""
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", READERS)
def test_a_bomb_is_refused_by_its_header(bombs, small_memory, reader, kind):
    with pytest.raises(
        DataError, match=f"11000x11000 pixels, more than the 100,000,000 of {LIMIT_VARIABLE}"
    ):
        READERS[reader](bombs[kind])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reader", ["labels", "panoptic"])
def test_another_size_is_refused_before_decoding(bombs, small_memory, reader, kind, monkeypatch):
    monkeypatch.setenv(LIMIT_VARIABLE, str(WIDE**2))
    with pytest.raises(WrongSize, match=r"expected the size 8x9 .*found 11000x11000"):
        READERS[reader](bombs[kind], size=(8, 9))


@pytest.mark.parametrize("ending", ["jpg", "bmp", "tif", "gif"])
@pytest.mark.parametrize("reader", READERS)
def test_other_formats_are_measured_too(tmp_path, monkeypatch, reader, ending):
    path = tmp_path / f"a.{ending}"
    Image.new("L", (40, 30)).save(path)
    monkeypatch.setenv(LIMIT_VARIABLE, "1199")
    with pytest.raises(DataError, match="states 30x40 pixels, more than the 1,199"):
        READERS[reader](path)
    if reader != "image":
        with pytest.raises(WrongSize, match=r"expected the size 8x8 .*found 30x40"):
            READERS[reader](path, size=(8, 8))


@pytest.mark.parametrize("ending", ["png", "jpg", "bmp"])
def test_the_limit_itself_is_read(tmp_path, monkeypatch, ending):
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (40, 30)).save(path)
    monkeypatch.setenv(LIMIT_VARIABLE, "1200")
    assert read_image(path).shape == (30, 40, 3)


def test_pillows_own_limit_neither_warns_nor_stops(tmp_path, monkeypatch):
    path = tmp_path / "a.bmp"
    Image.new("RGB", (40, 30)).save(path)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 500)
    assert read_image(path).shape == (30, 40, 3)
    assert Image.MAX_IMAGE_PIXELS == 500


@pytest.mark.parametrize("text", ["many", "-1", "0", "1e9", "1.5", "9" * 13, " "])
def test_a_limit_that_is_no_number(tmp_path, monkeypatch, text):
    Image.new("L", (4, 3)).save(tmp_path / "a.png")
    monkeypatch.setenv(LIMIT_VARIABLE, text)
    with pytest.raises(ConfigError, match=f"{LIMIT_VARIABLE}: expected a whole number above 0"):
        read_label_map(tmp_path / "a.png")


@pytest.mark.parametrize("compiled", [False, True])
def test_a_folder_of_bombs_is_scored_in_little_memory(tmp_path, bombs, compiled, monkeypatch):
    if compiled:
        speed.load()
    for folder in ("gt", "pred"):
        (tmp_path / folder).mkdir()
    for name, file in bombs.items():
        write_label_map(tmp_path / "gt" / f"{name}.png", np.zeros((8, 8), dtype=np.uint8))
        (tmp_path / "pred" / f"{name}.png").write_bytes(file.read_bytes())
    tracemalloc.start()
    with pytest.raises(
        DataError, match="8 predictions have another size than their truth"
    ) as found:
        count_folder(
            tmp_path / "gt", tmp_path / "pred",
            protocol=get_protocol("semantic-pooled", task="semantic"), num_classes=3,
        )  # fmt: skip
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "11000x11000 for 8x8" in str(found.value)
    assert peak < 60 * 2**20


def npy(shape: tuple[int, ...], data: bytes) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        stream, {"descr": "<i8", "fortran_order": False, "shape": shape}
    )
    return stream.getvalue() + data


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy((10**12,), bytes(8)), "is not as long as it says"),
        (npy((2**40, 2**40), b""), "is not as long as it says"),
        (npy((2**25,), bytes(2**28)), "which no counts do"),
        (b"not an array", "is no counts file"),
    ],
)
def test_counts_are_measured_before_they_are_read(tmp_path, content, words):
    path = tmp_path / "counts.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.npy", npy((), (1).to_bytes(8, "little")))
        archive.writestr("semantic/entries.npy", content)
    tracemalloc.start()
    with pytest.raises(DataError, match=words):
        load_counts(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


def test_the_limit_is_stated_in_the_documentation():
    text = (Path(__file__).parents[2] / "docs" / "custom-datasets.md").read_text()
    assert LIMIT_VARIABLE in text
    assert f"{MAX_PIXELS:,}" in text
