"""Packs the trees of a miniature into real archives and lists their digests.

    build(folder)                        # a miniature writes one sub-folder an archive
    digests = make_archives(info, folder, site)
    # site/<dataset>/<archive name> can be served; digests is a file for --digests
    download_archives(info, raw, mirror=Mirror(address of site, read_digests(digests)))

A server over ``site`` is then a mirror in the sense of ``SEGBENCH_MIRROR``.
"""

import hashlib
import shutil
import tarfile
import tempfile
import zipfile
from pathlib import Path

from segbench.datasets.download.containers import container_kind

_TIME = (2012, 5, 11, 12, 0, 0)


def make_archives(info, folder: Path, site: Path) -> Path:
    """Pack ``folder/<archive name>`` of every archive there is into ``site/<dataset>/``.

    Returns a list of digests, as sha256sum writes it: ``site/<dataset>/SHA256SUMS``.
    """
    target = site / info.name
    target.mkdir(parents=True)
    lines = []
    for archive in info.archives:
        source = folder / archive.name
        if not source.exists():
            assert archive.optional, f"the miniature of {info.name} lacks {archive.name}"
            continue
        packed = pack(source, target / archive.name, nested=archive.nested)
        lines.append(f"{hashlib.sha256(packed.read_bytes()).hexdigest()}  {archive.name}\n")
    digests = target / "SHA256SUMS"
    digests.write_text("".join(lines))
    return digests


def pack(source: Path, target: Path, *, nested=()) -> Path:
    """Pack a tree as the suffix of the target says; a plain file is copied.

    ``nested`` are folders of the tree that become archives in the archive.
    """
    kind = container_kind(target.name)
    if nested:
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copytree(source, Path(folder) / "tree")
            for name in nested:
                inner = pack(copy / name, Path(folder) / Path(name).name)
                shutil.rmtree(copy / name)
                inner.rename(copy / name)
            return pack(copy, target)
    if source.is_file():
        shutil.copyfile(source, target)
    elif kind == "zip":
        _zip(source, target)
    elif kind == "tar":
        _tar(source, target)
    else:
        raise AssertionError(f"{source} is a folder, but {target.name} is no container")
    return target


def _zip(source: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as container:
        for path in sorted(source.rglob("*")):
            name = path.relative_to(source).as_posix()
            info = zipfile.ZipInfo(name + "/" * path.is_dir(), _TIME)
            info.external_attr = (0o40755 if path.is_dir() else 0o100644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            container.writestr(info, b"" if path.is_dir() else path.read_bytes())


def _tar(source: Path, target: Path) -> None:
    endings = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".tbz2": "w:bz2",
               ".xz": "w:xz", ".txz": "w:xz"}  # fmt: skip
    with tarfile.open(target, endings.get(target.suffix, "w")) as container:
        for path in sorted(source.rglob("*")):
            container.add(path, path.relative_to(source).as_posix(), recursive=False)
