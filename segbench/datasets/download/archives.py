"""The archives of a dataset: fetched or found, verified, unpacked, each exactly once.

``download_archives`` may be killed at any moment and run again, alone or twice at once: what
is verified is not fetched again, what is unpacked is not unpacked again, and nothing is
taken for whole before its manifest is there (:mod:`segbench.datasets.download.state`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from segbench.core.errors import ConfigError, DataError, did_you_mean
from segbench.core.lease import Lease
from segbench.core.progress import say
from segbench.core.types import Archive, DatasetInfo
from segbench.datasets.download.client import Client
from segbench.datasets.download.digests import Expected, expected_of, mismatch
from segbench.datasets.download.disk import writing
from segbench.datasets.download.install import install
from segbench.datasets.download.login import SITES, log_in
from segbench.datasets.download.state import Places, read_manifest
from segbench.datasets.download.transfer import Policy, fetch
from segbench.datasets.download.unpack import Limits


@dataclass(frozen=True)
class Mirror:
    """Where archives are taken from instead of their publishers' addresses.

    ``digests`` come from the user, never from the mirror: an archive that is not listed must
    be, byte for byte, the published one.
    """

    base: str = ""
    """``<base>/<dataset>/<archive name>`` is the address of an archive; empty for none."""
    digests: Mapping[str, str] = field(default_factory=dict)
    """``sha256:<hex>`` by archive name; each stands above the published digest and size."""

    def __post_init__(self) -> None:
        if self.base and not re.match(r"https?://[^/?#]+[^?#]*$", self.base):
            raise ConfigError(
                "the address of the mirror must be http://host/folder or https://host/folder, "
                "without '?' and '#'",
                fix="correct --url-base or SEGBENCH_MIRROR",
            )

    def urls(self, dataset: str, archive: Archive) -> tuple[str, ...]:
        """Return the addresses of an archive, in the order they are tried."""
        if self.base:
            return (f"{self.base.rstrip('/')}/{quote(dataset)}/{quote(archive.name)}",)
        return () if archive.manual else archive.urls


def download_archives(
    info: DatasetInfo,
    raw: Path,
    *,
    names: Sequence[str] = (),
    mirror: Mirror | None = None,
    keep: bool = True,
    policy: Policy | None = None,
    limits: Limits | None = None,
) -> list[dict[str, Any]]:
    """Make sure the archives of a dataset are unpacked in its raw folder.

    Args:
        info: The dataset.
        raw: Its raw folder, made if needed.
        names: Only these archives; empty for every one that is not optional.
        mirror: Where to take them from, and digests that stand above the published ones.
        keep: Whether the packed archives stay in ``raw/archives`` afterwards.
        policy: Patience with servers.
        limits: What is taken for a bomb.

    Returns:
        The manifest of each archive, without its listing.

    Raises:
        ConfigError: An archive of ``names`` is unknown.
        DataError: What a user can repair: files to supply by hand, every server that failed,
            a wrong digest, a refused member, a full disk.
    """
    mirror, policy, limits = mirror or Mirror(), policy or Policy(), limits or Limits()
    raw = Path(raw)
    jobs = [
        _Job(info.name, Places(raw, archive), expected_of(archive, mirror.digests), mirror)
        for archive in chosen_archives(info, names)
    ]
    found = [job.manifest() for job in jobs]
    pairs = list(zip(jobs, found, strict=True))
    _refuse_unreachable(info, [job for job, done in pairs if done is None])
    done = [manifest or job.run(policy, limits) for job, manifest in pairs]
    if not keep:
        for job in jobs:
            with writing(job.places.packed):
                job.places.packed.unlink(missing_ok=True)
    return done


def chosen_archives(info: DatasetInfo, names: Sequence[str]) -> list[Archive]:
    """Return the archives of these names, or all that are not optional."""
    known = {archive.name: archive for archive in info.archives}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"dataset '{info.name}' has no archive '{name}'.{did_you_mean(name, known)}",
                fix=f"its archives: {', '.join(known) or 'none'}",
            )
    return [known[name] for name in names] or [a for a in info.archives if not a.optional]


@dataclass(frozen=True)
class _Job:
    """One archive on its way."""

    dataset: str
    places: Places
    expected: Expected
    mirror: Mirror

    @property
    def archive(self) -> Archive:
        return self.places.archive

    @property
    def urls(self) -> tuple[str, ...]:
        return self.mirror.urls(self.dataset, self.archive)

    def manifest(self) -> dict[str, Any] | None:
        """Return the manifest without its listing, None where work is to be done."""
        found = read_manifest(self.places, self.expected)
        return None if found is None else {k: found[k] for k in found if k != "listing"}

    def run(self, policy: Policy, limits: Limits) -> dict[str, Any]:
        """Fetch, verify and unpack, unless another process has just done so."""
        with writing(self.places.lease):
            self.places.lease.mkdir(parents=True, exist_ok=True)
        with Lease(self.places.lease) as lease:
            return self.manifest() or self._work(lease, policy, limits)

    def _work(self, lease: Lease, policy: Policy, limits: Limits) -> dict[str, Any]:
        packed, facts = self._found() or self._fetched(policy)
        install(
            self.places,
            packed,
            limits=limits,
            check=lease.check,
            dataset=self.dataset,
            num_bytes=packed.stat().st_size,
            verified=self.expected.digest,
            stated_by=self.expected.stated_by,
            **facts,
        )
        done = self.manifest()
        assert done is not None
        say(f"{self.dataset}: {self.archive.name}: {done['files']} files in {self.places.target}")
        return done

    def _found(self) -> tuple[Path, dict[str, str]] | None:
        """Return an archive that is here already, verified; None where there is none."""
        packed = self.places.supplied()
        if packed is None:
            return None
        problem, sha256 = mismatch(packed, self.expected)
        if problem:
            raise DataError(
                f"{packed} {problem}",
                fix="delete it and run the same command again, or put the right file there",
            )
        return packed, {"sha256": sha256, "source": "found in the raw folder"}

    def _fetched(self, policy: Policy) -> tuple[Path, dict[str, str]]:
        packed = self.places.packed
        with writing(packed):
            packed.parent.mkdir(parents=True, exist_ok=True)
        with Client(timeout_s=policy.timeout_s) as client:
            if self.archive.login and not self.mirror.base:
                log_in(client, SITES[self.archive.login])
            found = fetch(self.urls, packed, self.expected, client=client, policy=policy)
        if not self.expected.digest:
            say(f"{packed.name}: nobody states a digest to compare with; sha256 {found.sha256}")
        return packed, {"sha256": found.sha256, "source": found.url}


def _refuse_unreachable(info: DatasetInfo, jobs: Sequence[_Job]) -> None:
    """List every file the user must supply, before anything is fetched."""
    missing = [job for job in jobs if job.places.supplied() is None and _by_hand(job)]
    if not missing:
        return
    lines = "".join(f"\n  {job.archive.name} ({job.expected})" for job in missing)
    reasons = dict.fromkeys(_by_hand(job) for job in missing)
    folder = missing[0].places.packed.parent
    files = "a file" if len(missing) == 1 else f"{len(missing)} files"
    raise DataError(
        f"dataset '{info.name}' needs {files} that cannot be downloaded for you:{lines}\n"
        + "\n".join(reasons),
        fix=f"put what is listed, as it is, into {folder}, then run: segbench download {info.name} "
        f"--raw {missing[0].places.raw}; a folder with the unpacked data is taken by --raw too; "
        f"the data: {info.homepage}",
    )


def _by_hand(job: _Job) -> str:
    """Return why a user must supply an archive; empty when it can be downloaded."""
    if job.mirror.base:
        return ""
    if not job.urls:
        return job.archive.manual or "its publisher offers no address for programs"
    if job.archive.login:
        site = SITES[job.archive.login]
        return "" if site.credentials() else f"{site.host} wants a login: {site.words}"
    return ""
