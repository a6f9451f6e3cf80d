"""Archives that lie, break or attack: refused by name, and nothing lands outside the folder."""

import gzip
import io
import os
import stat
import struct
import tarfile
import tracemalloc
import unicodedata
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segbench.core.errors import DataError
from segbench.datasets.download.containers import container_kind
from segbench.datasets.download.names import SeenNames, safe_path
from segbench.datasets.download.unpack import Limits, unpack
from tests.datasets.archive_maker import pack

SMALL = Limits(ratio=10, free_bytes=100_000)


def zip_of(path, members, **options):
    """Write a zip of (name or ZipInfo, bytes) pairs."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as container:
        for name, data in members:
            container.writestr(name, data)
    return path


def tar_of(path, members, mode="w"):
    """Write a tar of (name or TarInfo, bytes) pairs."""
    with tarfile.open(path, mode, format=tarfile.PAX_FORMAT) as container:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data) if info.isreg() else 0
            container.addfile(info, io.BytesIO(data))
    return path


def tar_kind(name, kind, target=""):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


def zip_kind(name, kind):
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, (kind | 0o777) << 16
    return info


def take(archive, folder, limits=SMALL, nested=()):
    folder.mkdir(exist_ok=True)
    return unpack(
        archive, container_kind(archive.name), folder=folder, limits=limits, nested=nested
    )


def refused(archive, tmp_path, limits=SMALL, **options):
    """Return the message; whatever was written lies in the folder and is a plain file in it."""
    outside = set(tmp_path.rglob("*"))
    folder = tmp_path / "raw" / ".unpack-x"
    folder.mkdir(parents=True)
    with pytest.raises(DataError) as error:
        take(archive, folder, limits, **options)
    new = set(tmp_path.rglob("*")) - outside - {tmp_path / "raw", folder}
    assert all(folder in path.parents and not path.is_symlink() for path in new)
    assert archive.name in str(error.value) or "member" in str(error.value)
    return str(error.value)


EVIL_NAMES = {
    "../evil": "leaves the folder",
    "a/../../evil": "leaves the folder",
    "a/..": "leaves the folder",
    "..\\evil": "leaves the folder",
    "/tmp/segbench-evil": "absolute",
    "\\\\host\\share\\evil": "absolute",
    "C:\\evil": "drive letter",
    "c:evil": "drive letter",
    "a/C:/evil": "drive letter",
    "new\nline": "control characters",
    "a" * 300: "more than 255 bytes",
    "é" * 200: "more than 255 bytes",
    "a/" * 70 + "b": "64 folders",
    "abc/" * 300 + "b": "1024 letters",
}


@pytest.mark.parametrize("name", EVIL_NAMES, ids=lambda name: ascii(name)[:20])
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.fault(12)
def test_names_that_leave_the_folder_are_refused(tmp_path, name, suffix):
    make = zip_of if suffix == ".zip" else tar_of
    archive = make(tmp_path / f"evil{suffix}", [("good.txt", b"1"), (name, b"2")])
    message = refused(archive, tmp_path)
    assert EVIL_NAMES[name] in message and "unpack it yourself" in message


def test_a_zip_name_with_a_nul_is_refused(tmp_path):
    archive = zip_of(tmp_path / "nul.zip", [("evilXname", b"1")])
    archive.write_bytes(archive.read_bytes().replace(b"evilXname", b"evil\0name"))
    assert "control characters" in refused(archive, tmp_path)


def test_a_name_that_is_no_text_is_refused(tmp_path):
    with tarfile.open(tmp_path / "raw.tar", "w", format=tarfile.GNU_FORMAT) as container:
        container.addfile(tarfile.TarInfo("caf\udce9.txt"))
    assert "no text in its name" in refused(tmp_path / "raw.tar", tmp_path)


TAR_KINDS = {
    "a symbolic link": tar_kind("link", tarfile.SYMTYPE, "/etc"),
    "a hard link": tar_kind("link", tarfile.LNKTYPE, "/etc/passwd"),
    "a FIFO": tar_kind("pipe", tarfile.FIFOTYPE),
    "a device": tar_kind("null", tarfile.CHRTYPE),
    "device": tar_kind("disk", tarfile.BLKTYPE),
}


@pytest.mark.parametrize("words", TAR_KINDS)
@pytest.mark.fault(12)
def test_tar_members_that_are_no_files_are_refused(tmp_path, words):
    archive = tar_of(tmp_path / "evil.tar", [(TAR_KINDS[words], b""), ("link/passwd", b"x")])
    assert words in refused(archive, tmp_path)


ZIP_KINDS = {
    "a symbolic link": stat.S_IFLNK, "a FIFO": stat.S_IFIFO, "a device": stat.S_IFCHR,
    "device": stat.S_IFBLK, "a socket": stat.S_IFSOCK,
}  # fmt: skip


@pytest.mark.parametrize("words", ZIP_KINDS)
@pytest.mark.fault(12)
def test_zip_members_that_are_no_files_are_refused_before_the_first_byte(tmp_path, words):
    evil = zip_kind("link", ZIP_KINDS[words])
    archive = zip_of(tmp_path / "evil.zip", [("good.txt", b"1"), (evil, b"/etc")])
    assert words in refused(archive, tmp_path)
    assert list((tmp_path / "raw/.unpack-x").iterdir()) == []


CLASHES = [
    (["a.png", "a.png"], "comes twice"),
    (["a/b.png", "a//b.png"], "comes twice"),
    (["a/b.png", "./a/b.png"], "comes twice"),
    (["a.png", "A.png"], "where case is ignored"),
    (["Train/1.png", "train/2.png"], "where case is ignored"),
    (["caf\u00e9", "cafe\u0301"], "where case is ignored"),
    (["a", "a/b"], "is a file and a folder"),
    (["a/b", "a"], "is a file and a folder"),
    (["a\\b", "a/b"], "comes twice"),
]


@pytest.mark.parametrize(("names", "words"), CLASHES)
@pytest.mark.parametrize("suffix", [".zip", ".tar"])
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.fault(12)
def test_members_that_would_be_one_file_are_refused(tmp_path, names, words, suffix):
    make = zip_of if suffix == ".zip" else tar_of
    archive = make(tmp_path / f"clash{suffix}", [(name, b"x") for name in names])
    assert words in refused(archive, tmp_path)


def test_an_encrypted_member_is_refused(tmp_path):
    archive = zip_of(tmp_path / "secret.zip", [("a.txt", b"1")])
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    archive.write_bytes(data)
    assert "member 'a.txt' is encrypted" in refused(archive, tmp_path)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.fault(12)
def test_a_bomb_is_stopped(tmp_path, suffix):
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "zeros").write_bytes(bytes(3_000_000))
    archive = pack(tree, tmp_path / f"bomb{suffix}")
    assert archive.stat().st_size < 10_000
    message = refused(archive, tmp_path)
    assert "or more; expected at most 100000 of an archive of its size" in message
    written = sum(p.stat().st_size for p in (tmp_path / "raw").rglob("*") if p.is_file())
    assert written <= 100_000


@pytest.mark.fault(12)
def test_a_bomb_of_many_members_is_stopped(tmp_path):
    archive = tar_of(tmp_path / "many.tar.gz", [(f"{i}", b"") for i in range(50)], "w:gz")
    limits = Limits(members=40)
    assert "has more than 40 members" in refused(archive, tmp_path, limits)


@pytest.mark.fault(12)
def test_a_zip_that_lies_about_its_size_writes_no_more_than_it_says(tmp_path):
    """The central directory states 10 bytes of a member of 50,000: its checksum gives it away."""
    archive = zip_of(tmp_path / "lie.zip", [("zeros", bytes(50_000))])
    data = archive.read_bytes().replace(struct.pack("<I", 50_000), struct.pack("<I", 10))
    archive.write_bytes(data)
    assert "is broken" in refused(archive, tmp_path)
    assert (tmp_path / "raw/.unpack-x/zeros").stat().st_size <= 10


def test_overlapping_members_of_a_zip_count_each_time(tmp_path):
    """Fifield's bomb: every entry of the directory points at the same compressed bytes."""
    archive = zip_of(tmp_path / "overlap.zip", [("a0", bytes(50_000)), ("a1", b"")])
    with zipfile.ZipFile(archive) as container:
        first = container.infolist()[0]
    with zipfile.ZipFile(archive, "a") as container:
        container.filelist += [_copy_of(first, f"a{i}") for i in range(2, 9)]
        container._didModify = True
    assert "or more; expected at most" in refused(archive, tmp_path)


def _copy_of(info, name):
    other = zipfile.ZipInfo(name)
    for field in ("header_offset", "CRC", "compress_size", "file_size", "compress_type"):
        setattr(other, field, getattr(info, field))
    return other


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    """A pax header that announces 2 GB of path name, all zeros: 2 MB when packed."""
    header = tarfile.TarInfo("pax")
    header.type, header.size = tarfile.XHDTYPE, 2 << 30
    archive = tmp_path / "header.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as stream:
        stream.write(header.tobuf(tarfile.GNU_FORMAT))
        stream.write(bytes(20 << 20))
    tracemalloc.start()
    assert "a header of 2147483648 bytes" in refused(archive, tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()


def test_a_sparse_member_is_refused(tmp_path):
    info = tarfile.TarInfo("sparse")
    info.pax_headers = {
        "GNU.sparse.major": "0", "GNU.sparse.minor": "1", "GNU.sparse.name": "sparse",
        "GNU.sparse.realsize": "1000000000", "GNU.sparse.numblocks": "1", "GNU.sparse.map": "0,5",
    }  # fmt: skip
    assert "sparse" in refused(tar_of(tmp_path / "s.tar", [(info, b"12345")]), tmp_path)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.97])
def test_a_cut_archive_is_broken_never_a_short_list(tmp_path, suffix, share):
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"{number}.bin").write_bytes(os.urandom(1000))
    archive = pack(tree, tmp_path / f"cut{suffix}")
    data = archive.read_bytes()
    end = len(data) if suffix != ".tar" else 20 * 1536
    archive.write_bytes(data[: int(share * end)])
    assert "is broken" in refused(archive, tmp_path)


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_flipped_byte_never_passes_unnoticed(tmp_path, suffix):
    """Either the archive is refused, or (in padding) the files are what they were."""
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "a.bin").write_bytes(os.urandom(700))
    (tree / "b.bin").write_bytes(os.urandom(700))
    archive = pack(tree, tmp_path / f"flip{suffix}")
    data = archive.read_bytes()
    passed = 0
    for position in range(0, len(data), max(1, len(data) // 60)):
        archive.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        folder = tmp_path / f"out{position}"
        try:
            files = take(archive, folder)
        except DataError:
            continue
        passed += 1
        if suffix != ".tar":
            contents = {f.path: (folder / f.path).read_bytes() for f in files}
            assert sorted(contents.values()) == sorted(p.read_bytes() for p in tree.iterdir())
    assert passed < 60, "a tar has no checksum of its data: the published digest has"


def test_bytes_without_end_after_the_end_are_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr("segbench.datasets.download.containers.MAX_PADDING", 2 << 20)
    with gzip.open(tmp_path / "a.tar.gz", "wb", compresslevel=1) as stream:
        stream.write(tar_of(tmp_path / "a.tar", [("a", b"1")]).read_bytes() + bytes(3 << 20))
    assert "bytes after its end mark" in refused(tmp_path / "a.tar.gz", tmp_path)


def test_a_tar_whose_second_header_is_broken_is_not_taken_as_ended(tmp_path):
    archive = tar_of(tmp_path / "b.tar", [("a", b"x" * 512), ("b", b"y" * 512)])
    data = bytearray(archive.read_bytes())
    data[1024 + 150] ^= 1
    archive.write_bytes(data)
    assert "stops without an end mark" in refused(archive, tmp_path)


def test_an_unknown_compression_is_named(tmp_path):
    archive = zip_of(tmp_path / "odd.zip", [("a.txt", b"1" * 100)])
    data = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        data[data.index(signature) + offset] = 9
    archive.write_bytes(data)
    assert "packed in a way that cannot be read" in refused(archive, tmp_path)


def test_no_archive_at_all(tmp_path):
    for name in ("a.zip", "a.tar", "a.tar.gz", "a.tar.xz"):
        (tmp_path / name).write_bytes(b"This is not an archive." * 100)
        with pytest.raises(DataError, match=r"is broken"):
            take(tmp_path / name, tmp_path / "out")


@pytest.mark.parametrize(
    "suffix", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz"]
)
def test_good_archives_come_out_byte_for_byte(tmp_path, suffix):
    tree = tmp_path / "tree"
    (tree / "a/empty").mkdir(parents=True)
    contents = {"a/one.bin": os.urandom(512), "a/ü ö.txt": b"", "deep/x/y/z": os.urandom(3000)}
    for name, data in contents.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(data)
    files = take(pack(tree, tmp_path / f"good{suffix}"), tmp_path / "out")
    assert {f.path: (tmp_path / "out" / f.path).read_bytes() for f in files} == contents
    assert {f.path: f.num_bytes for f in files} == {k: len(v) for k, v in contents.items()}
    assert (tmp_path / "out/a/empty").is_dir()


def test_a_zip_made_on_windows(tmp_path):
    members = [("images\\", b""), ("images\\a.png", b"1"), ("images\\deep\\b.png", b"2")]
    files = take(zip_of(tmp_path / "windows.zip", members), tmp_path / "out")
    assert [file.path for file in files] == ["images/a.png", "images/deep/b.png"]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar_with_long_names(tmp_path, form):
    names = ["a" * 90 + "/" + "b" * 60, "short", "./dotted"]
    if form != tarfile.USTAR_FORMAT:
        names.append("/".join(["c" * 100] * 3))
    with tarfile.open(tmp_path / "long.tar", "w", format=form) as container:
        container.addfile(tar_kind("./", tarfile.DIRTYPE))
        for name in names:
            info = tarfile.TarInfo(name)
            info.size, info.mtime = 1500, 1.5
            container.addfile(info, io.BytesIO(bytes(1500)))
    files = take(tmp_path / "long.tar", tmp_path / "out")
    assert [file.path for file in files] == [name.removeprefix("./") for name in names]


def test_modes_of_members_are_not_taken_over(tmp_path):
    info = tarfile.TarInfo("run")
    info.mode = 0o6777
    take(tar_of(tmp_path / "mode.tar", [(info, b"x")]), tmp_path / "out")
    assert (tmp_path / "out/run").stat().st_mode & 0o7111 == 0


def test_archives_in_archives_give_way_to_their_members(tmp_path):
    tree = tmp_path / "tree"
    (tree / "annotations/masks.zip/masks").mkdir(parents=True)
    (tree / "annotations/masks.zip/masks/1.png").write_bytes(b"mask")
    (tree / "annotations/list.json").write_text("{}")
    archive = pack(tree, tmp_path / "outer.zip", nested=["annotations/masks.zip"])
    files = take(archive, tmp_path / "out", nested=["annotations/masks.zip"])
    assert {f.path for f in files} == {"annotations/list.json", "annotations/masks/1.png"}
    assert not (tmp_path / "out/annotations/masks.zip").exists()
    assert "has no archive x.zip in it" in refused(archive, tmp_path, nested=["x.zip"])


@pytest.mark.fault(12)
def test_evil_in_an_inner_archive_is_refused_too(tmp_path):
    inner = zip_of(tmp_path / "inner.zip", [("../../evil", b"x")]).read_bytes()
    archive = zip_of(tmp_path / "outer.zip", [("a/inner.zip", inner)])
    assert "leaves the folder" in refused(archive, tmp_path, nested=["a/inner.zip"])


@pytest.mark.fault(12)
def test_inner_archives_count_as_bombs_with_the_outer_one(tmp_path):
    inner = zip_of(tmp_path / "inner.zip", [("zeros", bytes(3_000_000))]).read_bytes()
    archive = zip_of(tmp_path / "outer.zip", [("inner.zip", inner)])
    assert "or more; expected at most" in refused(archive, tmp_path, nested=["inner.zip"])


def test_memory_does_not_grow_with_a_member(tmp_path):
    tree = tmp_path / "tree"
    tree.mkdir()
    with (tree / "big").open("wb") as stream:
        for _ in range(10):
            stream.write(os.urandom(1 << 20))
    for suffix in (".zip", ".tar"):
        archive = pack(tree, tmp_path / f"big{suffix}")
        tracemalloc.start()
        take(archive, tmp_path / f"out{suffix}", Limits())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 6 << 20


NASTY = st.text(
    st.sampled_from("ab.AÉe\u0301/\\:C\0\n .~é\udc80"), min_size=0, max_size=12
) | st.text(max_size=20)


@settings(max_examples=400, deadline=None)
@given(NASTY)
@example("..")
@example("./..\\x")
@example("C:")
@pytest.mark.fault(12)
def test_every_accepted_name_stays_inside(name):
    folder = Path("/srv/raw/.unpack-x")
    try:
        path = safe_path(name)
    except DataError:
        return
    target = Path(os.path.normpath(folder / path))
    assert folder in target.parents
    assert "\0" not in str(path) and "\\" not in str(path) and not path.is_absolute()
    str(path).encode()


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text("aAbB/é", min_size=1, max_size=5) | st.just("e\u0301"), max_size=6))
def test_accepted_names_stay_apart_where_case_is_ignored(names):
    """On a disk that folds names there are as many files as members, none in another's way."""
    seen, taken = SeenNames(), []
    for name in names:
        path = PurePosixPath(*[p for p in name.split("/") if p] or ["x"])
        try:
            seen.add(path, is_folder=False)
        except DataError:
            return
        taken.append(unicodedata.normalize("NFD", str(path)).casefold())
    assert len(set(taken)) == len(taken)
    assert not any(a.startswith(b + "/") for a in taken for b in taken)
