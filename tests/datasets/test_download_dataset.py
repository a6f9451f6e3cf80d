"""``segbench download`` from the command line: killed, repeated, twice at once, by hand."""

import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile

import numpy as np
import pytest

from segbench.cli import main
from segbench.core.errors import DataError, LeaseLost
from segbench.datasets import dataset_info, prepare_dataset, registry
from segbench.datasets.download import login
from segbench.datasets.download.archives import Mirror, download_archives
from segbench.datasets.download.digests import read_digests
from segbench.datasets.download.raw_folder import archive_states
from tests.datasets.archive_maker import make_archives, pack
from tests.datasets.fault_server import (
    LOGIN_PAGE,
    FaultServer,
    content,
    cut,
    dribble,
    healthy,
    page,
    redirect,
    status,
)
from tests.datasets.miniatures.scenes import save

SECRET = "correct horse battery"
NOISE = random.Random(3).randbytes(2_000_000)
POCKET = '''
"""Two archives and a list: the smallest dataset that is downloaded."""

import os
from functools import partial

import numpy as np

from segbench.datasets.source import (
    Archive, Category, DataError, DatasetInfo, RawImage, SourceImage, files_by_stem, read_pair,
)

SITE = {site!r}
INFO = DatasetInfo(
    name="pocket", display_name="Pocket", description="", tasks=("semantic",),
    categories=(Category(1, "a", False, (0, 0, 0)), Category(2, "b", False, (9, 9, 9))),
    splits={{"train": None, "val": None}}, protocols={{"semantic": "digit_scenes-11"}},
    licence="CC0", citation="none", homepage="https://example.org/pocket",
    layout="It must hold images/ and labels/ with one PNG an image.",
    archives=(
        Archive("images.zip", (SITE + "/pocket/images.zip",), digest={digests[0]!r}, **{extra!r}),
        Archive("labels.tar.gz", (SITE + "/pocket/labels.tar.gz",), digest={digests[1]!r}),
        Archive("split.txt", (SITE + "/pocket/split.txt",), digest={digests[2]!r}),
        Archive("more.zip", (SITE + "/pocket/more.zip",), optional=True),
    ),
)


def sources(raw, options):
    images, labels = files_by_stem(raw / "images"), files_by_stem(raw / "labels")
    if not images:
        raise DataError(f"{{raw}} has no images/")
    items = {{}}
    for stem, image in images.items():
        label = labels.get(stem, raw / "labels" / f"{{stem}}.png")
        load = partial(_load, image, label)
        items.setdefault(stem.split("_")[0], []).append(SourceImage(stem, load, (image, label)))
    return items


def _load(image, label):
    size, labels = read_pair(image, label)
    return RawImage(image=image, size=size, semantic=labels.astype(np.uint8))
'''


def build(folder):
    """Write the trees of the archives: four images, a list and ballast."""
    noise = np.random.default_rng(4)
    for stem in ("train_1", "train_2", "val_1", "val_2"):
        labels = np.arange(12 * 16).reshape(12, 16) % 2
        save(folder / f"images.zip/images/{stem}.png", noise.integers(0, 255, (12, 16, 3)))
        save(folder / f"labels.tar.gz/labels/{stem}.png", labels)
    for name in ("images.zip/LICENSE.txt", "labels.tar.gz/LICENSE.txt"):
        (folder / name).write_text(f"licence of {name}")
    (folder / "images.zip/ballast.bin").write_bytes(NOISE)
    (folder / "split.txt").write_text("train_1\n")


class Site:
    """The publisher: archives behind a faulty server, and the dataset file that names them."""

    def __init__(self, folder, server):
        self.folder, self.server = folder, server
        self.dataset_file = folder / "datasets" / "pocket.py"
        self.digests = None

    def publish(self, *, site=None, **extra):
        """Write the dataset file and return what is known of the dataset."""
        lines = read_digests(self.digests)
        digests = [lines[name] for name in ("images.zip", "labels.tar.gz", "split.txt")]
        self.dataset_file.parent.mkdir(exist_ok=True)
        self.dataset_file.write_text(
            POCKET.format(site=site or self.server.url, digests=digests, extra=extra)
        )
        registry._import.cache_clear()
        return dataset_info("pocket")

    def asked(self, name):
        return [r for r in self.server.requests if r.path == f"/pocket/{name}"]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The packed archives, made once."""
    folder = tmp_path_factory.mktemp("archives")
    build(folder / "built")
    info = type("Info", (), {"name": "pocket", "archives": [_Named(n, n == "more.zip") for n in (
        "images.zip", "labels.tar.gz", "split.txt", "more.zip")]})  # fmt: skip
    make_archives(info, folder / "built", folder / "site")
    return folder / "site"


class _Named:
    def __init__(self, name, optional):
        self.name, self.optional, self.nested = name, optional, ()


@pytest.fixture
def site(tmp_path, archives, monkeypatch):
    with FaultServer(folder=archives) as server:
        site = Site(tmp_path, server)
        site.digests = archives / "pocket" / "SHA256SUMS"
        monkeypatch.setenv("SEGBENCH_DATASETS_PATH", str(site.dataset_file.parent))
        monkeypatch.chdir(tmp_path)
        site.publish()
        yield site


@pytest.fixture
def run(monkeypatch, capfd):
    """Run the command line in this process; return exit code and all it wrote."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["segbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in out + err
        return stopped.value.code, out + err

    return call


def start(code="", *arguments):
    """Start the command line in a process of its own, after some code."""
    program = f"import sys\n{code}\nfrom segbench.cli import main\nmain()\n"
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait_until(condition, process=None):
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        assert process is None or process.poll() is None, process.stderr.read()
        time.sleep(0.005)


def snapshot(raw):
    """Return the files of a raw folder with content, without the bookkeeping."""
    files = [p for p in raw.rglob("*") if p.is_file() and ".segbench" not in p.parts]
    return {p.relative_to(raw).as_posix(): p.read_bytes() for p in files}


def test_from_the_archives_to_the_prepared_form(site, run, tmp_path):
    code, text = run("download", "pocket")
    assert code == 0, text
    raw = tmp_path / "results/raw/pocket"
    assert (raw / "images/train_1.png").is_file() and (raw / "labels/val_2.png").is_file()
    assert (raw / "split.txt").read_text() == "train_1\n"
    assert "LICENSE.txt of another archive stays" in text
    record = json.loads((tmp_path / "results/raw/pocket.json").read_text())
    assert [a["archive"] for a in record["archives"]] == [
        "images.zip",
        "labels.tar.gz",
        "split.txt",
    ]
    assert record["archives"][0]["source"] == f"{site.server.url}/pocket/images.zip"
    assert record["archives"][0]["verified"] == read_digests(site.digests)["images.zip"]
    assert ["split.txt", 8] in record["listing"] and record["files"] == 11
    states = {s.archive.name: s.state for s in archive_states(dataset_info("pocket"), raw)}
    assert states == {"images.zip": "unpacked", "labels.tar.gz": "unpacked",
                      "split.txt": "unpacked", "more.zip": "absent"}  # fmt: skip
    code, text = run("prepare", "pocket")
    assert code == 0 and "train 2, val 2" in text


def test_a_second_run_asks_nobody_and_writes_nothing(site, run, tmp_path):
    run("download", "pocket", "--no-keep-archives")
    raw = tmp_path / "results/raw/pocket"
    assert not list((raw / "archives").iterdir())
    before, asked = {p: p.stat().st_mtime_ns for p in raw.rglob("*")}, len(site.server.requests)
    assert run("download", "pocket")[0] == 0
    assert {p: p.stat().st_mtime_ns for p in raw.rglob("*")} == before
    assert len(site.server.requests) == asked == 3


def test_a_lost_file_is_unpacked_again_without_the_network(site, run, tmp_path):
    run("download", "pocket")
    whole = snapshot(tmp_path / "results/raw/pocket")
    (tmp_path / "results/raw/pocket/images/train_1.png").unlink()
    assert run("download", "pocket")[0] == 0
    assert snapshot(tmp_path / "results/raw/pocket") == whole
    assert len(site.server.requests) == 3


@pytest.mark.fault(11)
def test_a_killed_download_asks_only_for_the_rest(site, run, tmp_path):
    site.server.always["/pocket/images.zip"] = dribble(0.05, chunk=20_000)
    process = start("", "download", "pocket")
    part = tmp_path / "results/raw/pocket/archives/images.zip.part"
    wait_until(lambda: part.is_file() and part.stat().st_size >= 300_000, process)
    process.kill()
    process.communicate()
    have = part.stat().st_size
    assert not (tmp_path / "results/raw/pocket.json").exists()
    assert "not a prepared" not in run("prepare", "pocket")[1]
    del site.server.always["/pocket/images.zip"]
    assert run("download", "pocket")[0] == 0
    last = site.asked("images.zip")[-1]
    assert last.begin == have and last.sent < len(NOISE) - 200_000
    assert run("prepare", "pocket")[0] == 0


SLOW = """
import time
from segbench.datasets.download import unpack
write = unpack._Writer._write_file
def slow(*arguments):
    time.sleep(0.3)
    yield from write(*arguments)
unpack._Writer._write_file = slow
"""


@pytest.mark.fault(13)
def test_a_killed_unpacking_is_never_taken_for_whole_and_done_again(site, run, tmp_path):
    raw = tmp_path / "results/raw/pocket"
    process = start(SLOW, "download", "pocket")
    wait_until(lambda: len(list(raw.glob(".unpack-images.zip/images/*"))) >= 2, process)
    process.kill()
    process.communicate()
    assert not (raw / "images").exists()
    code, text = run("prepare", "pocket", "--raw", raw)
    assert code == 1 and "is not whole: images.zip is being unpacked" in text
    assert "segbench download pocket" in text
    assert run("download", "pocket")[0] == 0
    assert not list(raw.glob(".unpack-*")) and len(list((raw / "images").iterdir())) == 4
    assert len(site.asked("images.zip")) == 1, "the archive itself was whole"
    assert run("prepare", "pocket")[0] == 0


@pytest.mark.fault(32)
def test_ctrl_c_while_unpacking_leaves_nothing_half(site, run, tmp_path):
    raw = tmp_path / "results/raw/pocket"
    process = start(SLOW, "download", "pocket")
    wait_until(lambda: len(list(raw.glob(".unpack-images.zip/images/*"))) >= 2, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors
    assert not list(raw.glob(".unpack-*")) and not (raw / "images").exists()
    assert run("download", "pocket")[0] == 0
    assert len(site.asked("images.zip")) == 1


def test_a_process_that_lost_the_archive_to_another_moves_nothing(site, run, tmp_path, monkeypatch):
    def lost(lease):
        raise LeaseLost("taken over")

    monkeypatch.setattr("segbench.core.lease.Lease.check", lost)
    code, text = run("download", "pocket")
    raw = tmp_path / "results/raw/pocket"
    assert code == 3 and "taken over" in text and not (raw / "images").exists()
    monkeypatch.undo()
    monkeypatch.setenv("SEGBENCH_DATASETS_PATH", str(site.dataset_file.parent))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="is not whole"):
        prepare_dataset("pocket", tmp_path / "out", raw=raw)


@pytest.mark.fault(21)
def test_a_full_disk_while_unpacking_leaves_nothing_half(site, run, tmp_path, archives):
    raw = tmp_path / "results/raw/pocket"
    (raw / "archives").mkdir(parents=True)
    shutil.copy(archives / "pocket/images.zip", raw / "archives")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, hard))
    try:
        code, text = run("download", "pocket")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert code == 1 and "ballast.bin: File too large" in text and "free disk space (" in text
    assert not list(raw.glob(".unpack-*")) and not (raw / "images").exists()
    assert run("download", "pocket")[0] == 0


def test_room_for_the_unpacked_files_is_asked_for_before(
    site, run, tmp_path, monkeypatch, archives
):
    (tmp_path / "results/raw/pocket/archives").mkdir(parents=True)
    shutil.copy(archives / "pocket/images.zip", tmp_path / "results/raw/pocket/archives")
    free = shutil.disk_usage("/")._replace(free=(32 << 20) + 1_000_000)
    monkeypatch.setattr("segbench.datasets.download.disk.shutil.disk_usage", lambda path: free)
    code, text = run("download", "pocket")
    assert code == 1 and "no room to unpack images.zip: it needs 2.0 MB in" in text
    assert not list((tmp_path / "results/raw/pocket").glob(".unpack-*"))


def test_a_composite_of_a_folder_that_is_not_whole_is_not_prepared(site, tmp_path):
    (tmp_path / "parts/coco2017/.unpack-val2017.zip").mkdir(parents=True)
    with pytest.raises(DataError, match=r"coco2017 is not whole: val2017.zip") as error:
        prepare_dataset("pocket", tmp_path / "out", raw=tmp_path / "parts")
    assert f"segbench download coco2017 --raw {tmp_path}/parts/coco2017" in str(error.value)


KILLED = """
import os, signal
def kill(*arguments, **keywords):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(
    "moment",
    [
        "from segbench.datasets.download import install; install._move = kill",
        "os.sync = kill",
        "from segbench.datasets.download import install; install.write_manifest = kill",
        "import shutil; shutil.rmtree = lambda path, **o: os.path.exists(path) and kill()",
        "from segbench.datasets.download.part import Part; Part.finish = kill",
    ],
    ids=["before the move", "after the move", "at the manifest", "at the end", "at the rename"],
)
@pytest.mark.fault(13)
def test_killed_at_every_step_of_the_installation(site, run, tmp_path, moment):
    raw = tmp_path / "results/raw/pocket"
    process = start(KILLED + moment, "download", "pocket")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(DataError):
        prepare_dataset("pocket", tmp_path / "out", raw=raw)
    assert run("download", "pocket")[0] == 0
    assert len(list((raw / "images").iterdir())) == 4 and not list(raw.glob(".unpack-*"))
    assert len(site.asked("images.zip")) == 1
    prepare_dataset("pocket", tmp_path / "out", raw=raw)


@pytest.mark.fault(13)
def test_two_at_once_the_second_waits_and_finds_it_done(site, tmp_path):
    second_waits = threading.Event()

    def gated(handler, data):
        handler.head(200, {"Content-Length": len(data), **handler.version()})
        handler.send(data[:100_000])
        second_waits.wait(25)
        handler.send(data[100_000:])

    site.server.always["/pocket/images.zip"] = gated
    first = start("", "download", "pocket")
    part = tmp_path / "results/raw/pocket/archives/images.zip.part"
    wait_until(lambda: part.is_file() and part.stat().st_size > 0, first)
    second = start("", "download", "pocket", "--out", "second.json")
    assert f"images.zip.lease is held by process {first.pid} on" in second.stderr.readline()
    second_waits.set()
    errors = [process.communicate(timeout=60)[1] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], errors
    assert [len(site.asked(name)) for name in ("images.zip", "labels.tar.gz")] == [1, 1]
    records = [tmp_path / "second.json", tmp_path / "results/raw/pocket.json"]
    assert records[0].read_bytes() == records[1].read_bytes()


@pytest.mark.fault(32)
def test_ctrl_c_leaves_a_part_to_go_on_with_and_nobody_waits(site, run, tmp_path):
    site.server.faults["/pocket/images.zip"] = [dribble(0.05, chunk=20_000)]
    process = start("", "download", "pocket")
    part = tmp_path / "results/raw/pocket/archives/images.zip.part"
    wait_until(lambda: part.is_file() and part.stat().st_size > 0, process)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 130 and "Traceback" not in errors
    have, began = part.stat().st_size, time.monotonic()
    code, text = run("download", "pocket")
    assert code == 0 and "waiting" not in text and "taking over" not in text
    assert site.asked("images.zip")[-1].begin == have > 0
    assert time.monotonic() - began < 20


@pytest.mark.fault(11)
def test_cut_servers_and_wrong_bytes_through_the_whole_command(site, run, tmp_path):
    site.server.faults["/pocket/images.zip"] = [cut(1_500_000)]
    site.server.always["/pocket/labels.tar.gz"] = content(b"wrong")
    code, text = run("download", "pocket")
    assert code == 1 and "labels.tar.gz cannot be downloaded" in text and "sha256" in text
    raw = tmp_path / "results/raw/pocket"
    assert not (raw / "labels").exists() and (raw / "images").is_dir()
    assert not (tmp_path / "results/raw/pocket.json").exists()
    site.server.always.clear()
    assert run("download", "pocket")[0] == 0
    assert len(site.asked("images.zip")) == 2


@pytest.mark.fault(12)
def test_an_evil_archive_leaves_nothing(site, run, tmp_path):
    tree = tmp_path / "evil"
    (tree / "images").mkdir(parents=True)
    (tree / "images" / "val_1.png").write_bytes(b"x")
    with zipfile.ZipFile(pack(tree, tmp_path / "evil.zip"), "a") as container:
        container.writestr("../../outside", b"x")
    evil = (tmp_path / "evil.zip").read_bytes()
    site.server.files["/pocket/images.zip"] = evil
    sums = tmp_path / "sums"
    sums.write_text(f"{hashlib.sha256(evil).hexdigest()} *images.zip\n")
    code, text = run("download", "pocket", "--digests", sums, "--url-base", site.server.url)
    assert code == 1 and "'../../outside' leaves the folder with '..'" in text
    raw = tmp_path / "results/raw/pocket"
    assert list(snapshot(raw)) == ["archives/images.zip"] and not list(raw.glob(".unpack-*"))
    assert not list(tmp_path.rglob("outside"))


def test_only_some_archives(site, run, tmp_path):
    code, text = run("download", "pocket", "--archive", "imags.zip")
    assert code == 2 and "Did you mean 'images.zip'?" in text
    code, text = run("download", "pocket", "--archive", "images.zip")
    assert code == 0 and "not complete without labels.tar.gz, split.txt" in text
    assert not (tmp_path / "results/raw/pocket.json").exists()
    assert run("download", "pocket", "--archive", "labels.tar.gz", "--archive", "split.txt")[0] == 0
    assert (tmp_path / "results/raw/pocket.json").exists()
    code, text = run("download", "pocket", "--archive", "more.zip")
    assert code == 1 and "HTTP 404 (not found)" in text


def test_a_mirror_cannot_change_a_published_byte(site, run, tmp_path, monkeypatch):
    tree = tmp_path / "tree"
    build(tree)
    (tree / "images.zip/images/val_1.png").unlink()
    other = pack(tree / "images.zip", tmp_path / "other.zip").read_bytes()
    with FaultServer({"/m/pocket/images.zip": other}) as mirror:
        monkeypatch.setenv("SEGBENCH_MIRROR", f"{mirror.url}/m/")
        code, text = run("download", "pocket")
        assert code == 1 and f"{mirror.url}/m/pocket/images.zip: the file has the sha256" in text
        assert not (tmp_path / "results/raw/pocket/images").exists()
        assert site.server.requests == []


@pytest.mark.parametrize("base", ["ftp://host/x", "host/x", "https://host/get?key=" + SECRET])
def test_an_address_that_is_no_mirror_is_refused_without_repeating_it(run, site, base):
    code, text = run("download", "pocket", "--url-base", base)
    assert code == 2 and "the address of the mirror must be http://host/folder" in text
    assert base not in text


@pytest.mark.fault(22)
def test_a_folder_that_cannot_be_written_is_named(run, site):
    code, text = run("download", "pocket", "--raw", "/proc/segbench")
    assert code == 1 and "cannot write /proc/segbench" in text


def test_what_nobody_states_a_digest_of_is_said_and_recorded(site, run, tmp_path, archives):
    site.server.files["/pocket/more.zip"] = (archives / "pocket/images.zip").read_bytes()
    code, text = run("download", "pocket", "--archive", "more.zip")
    sha256 = read_digests(site.digests)["images.zip"].removeprefix("sha256:")
    assert code == 0 and f"nobody states a digest to compare with; sha256 {sha256}" in text
    manifest = json.loads((tmp_path / "results/raw/pocket/.segbench/more.zip.json").read_text())
    assert (manifest["sha256"], manifest["verified"]) == (sha256, "")
    assert manifest["stated_by"] == "nobody"


def test_a_list_of_digests_that_is_none_is_named(site, run, tmp_path):
    (tmp_path / "sums").write_text("abc  images.zip\n")
    code, text = run("download", "pocket", "--digests", "sums")
    assert code == 2 and "sums:1: expected a sha256 of 64 hex digits" in text
    code, text = run("download", "pocket", "--digests", "nowhere")
    assert code == 2 and "the list of digests nowhere cannot be read" in text


def test_secrets_of_a_mirrors_address_are_not_shown(site, run, tmp_path):
    base = site.server.url.replace("//", "//me:" + SECRET.replace(" ", "%20") + "@")
    code, text = run("download", "pocket", "--url-base", base)
    assert code == 0
    assert site.server.requests[0].headers["Authorization"].startswith("Basic ")
    site.server.always["/pocket/images.zip"] = status(404)
    text += run("download", "pocket", "--url-base", base, "--raw", "other")[1]
    assert "HTTP 404" in text
    kept = b"".join(snapshot(tmp_path).values()) + b"".join(
        p.read_bytes() for p in tmp_path.rglob(".segbench/*.json")
    )
    assert "horse" not in text and b"horse" not in kept


class TestLogin:
    """A site that gives its files to registered users."""

    @pytest.fixture(autouse=True)
    def cityscapes(self, site, monkeypatch):
        url = site.server.url
        real = login.SITES["cityscapes"]
        place = login.Site("127.0.0.1", f"{url}/login", real.register_url,
                           real.user_variable, real.password_variable)  # fmt: skip
        monkeypatch.setitem(login.SITES, "cityscapes", place)
        site.publish(login="cityscapes")
        site.server.always["/login"] = self.form
        site.server.always["/pocket/images.zip"] = self.members_only
        self.site = site

    @staticmethod
    def form(handler, data):
        record = handler.record
        if record.method == "POST" and b"password=correct+horse+battery" in record.body:
            assert b"username=me" in record.body and b"submit=Login" in record.body
            handler.head(302, {"Set-Cookie": "session=s3cret; Path=/", "Location": "/"})
        else:
            page(LOGIN_PAGE)(handler, data)

    @staticmethod
    def members_only(handler, data):
        inside = "session=s3cret" in handler.headers.get("Cookie", "")
        (healthy if inside else page(LOGIN_PAGE))(handler, data)

    def test_without_credentials_the_files_are_listed(self, run, tmp_path, monkeypatch):
        monkeypatch.delenv("CITYSCAPES_USERNAME", raising=False)
        code, text = run("download", "pocket")
        assert code == 1 and self.site.server.requests == []
        assert "images.zip (size unknown, sha256:" in text
        assert "set CITYSCAPES_USERNAME and CITYSCAPES_PASSWORD" in text
        assert "into results/raw/pocket/archives, then run: segbench download pocket" in text
        assert "labels.tar.gz" not in text, "it needs no login"

    def credentials(self, monkeypatch, password=SECRET):
        monkeypatch.setenv("CITYSCAPES_USERNAME", "me")
        monkeypatch.setenv("CITYSCAPES_PASSWORD", password)

    def test_with_credentials(self, run, monkeypatch, tmp_path):
        self.credentials(monkeypatch)
        code, text = run("download", "pocket")
        assert code == 0, text
        kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
        assert "horse" not in text and "s3cret" not in text
        assert b"horse" not in kept and b"s3cret" not in kept

    def test_a_wrong_password(self, run, monkeypatch):
        self.credentials(monkeypatch, "wrong horse")
        code, text = run("download", "pocket")
        assert code == 1 and "127.0.0.1 refuses the user name or the password" in text
        assert "horse" not in text

    def test_a_login_that_does_not_answer(self, run, monkeypatch):
        self.credentials(monkeypatch)
        self.site.server.always["/login"] = status(500)
        code, text = run("download", "pocket")
        assert code == 1 and "answers the login with HTTP 500" in text and "horse" not in text

    def test_a_login_that_ran_out_is_named(self, run, monkeypatch):
        self.credentials(monkeypatch)
        self.site.server.always["/pocket/images.zip"] = page(LOGIN_PAGE)
        code, text = run("download", "pocket")
        assert code == 1 and "a login page came in place of the file" in text

    def test_redirects_carry_no_cookie_to_another_host(self, run, monkeypatch):
        self.credentials(monkeypatch)
        with FaultServer(folder=self.site.server.folder, host="localhost") as other:
            target = other.url + "/pocket/images.zip?signature=s1gned"
            other.files["/pocket/images.zip?signature=s1gned"] = other.content("/pocket/images.zip")
            self.site.server.always["/pocket/images.zip"] = redirect(target)
            code, text = run("download", "pocket")
            assert code == 0, text
            assert all("Cookie" not in r.headers for r in other.requests) and other.requests
            assert "s1gned" not in text


class TestByHand:
    """Archives that a licence or a missing address leaves to the user."""

    @pytest.fixture(autouse=True)
    def manual(self, site):
        self.info = site.publish(manual="ask for it by a letter")
        self.site = site

    def test_the_files_are_listed_and_found_where_they_are_put(self, run, tmp_path, archives):
        code, text = run("download", "pocket")
        assert code == 1 and self.site.server.requests == []
        assert "needs a file that cannot be downloaded" in text
        assert "images.zip (size unknown, sha256:" in text and "ask for it by a letter" in text
        assert "into results/raw/pocket/archives, then run: segbench download pocket" in text
        target = tmp_path / "results/raw/pocket/archives/images.zip"
        target.parent.mkdir(parents=True)
        target.write_bytes(b"something else")
        code, text = run("download", "pocket")
        assert code == 1 and "archives/images.zip has the sha256" in text
        target.write_bytes((archives / "pocket/images.zip").read_bytes())
        assert run("download", "pocket")[0] == 0
        assert not self.site.asked("images.zip")

    def test_in_the_folder_itself_they_are_found_too(self, run, tmp_path, archives):
        (tmp_path / "mine").mkdir()
        data = (archives / "pocket/images.zip").read_bytes()
        (tmp_path / "mine/images.zip").write_bytes(data)
        assert run("download", "pocket", "--raw", "mine")[0] == 0
        assert (tmp_path / "mine/images.zip").read_bytes() == data

    def test_a_folder_that_is_unpacked_already_is_taken_as_it_is(self, run, tmp_path):
        build(tmp_path / "built")
        for name in ("images.zip", "labels.tar.gz"):
            shutil.copytree(tmp_path / "built" / name, tmp_path / "mine", dirs_exist_ok=True)
        before = snapshot(tmp_path / "mine")
        code, text = run("download", "pocket", "--raw", "mine")
        assert code == 0 and "mine is taken as it is" in text
        assert snapshot(tmp_path / "mine") == before and self.site.server.requests == []
        assert not (tmp_path / "mine/.segbench").exists()

    def test_a_folder_with_something_else_is_never_written_to(self, run, tmp_path):
        (tmp_path / "home/letters").mkdir(parents=True)
        (tmp_path / "home/letters/a.txt").write_text("x")
        code, text = run("download", "pocket", "--raw", "home")
        assert code == 1 and "home holds files, but not the dataset 'pocket'" in text
        assert "has no images/" in text and "It must hold images/ and labels/" in text
        assert list(snapshot(tmp_path / "home")) == ["letters/a.txt"]

    def test_a_folder_that_is_nowhere(self, run):
        code, text = run("download", "pocket", "--raw", "no/where")
        assert code == 1 and "no/where is not a folder" in text


def test_another_version_is_not_mixed_in(site, run, tmp_path):
    run("download", "pocket")
    (tmp_path / "sums").write_text("0" * 64 + "  images.zip\n")
    code, text = run("download", "pocket", "--digests", "sums")
    assert code == 1 and "holds another version of images.zip" in text


def test_files_of_two_archives_do_not_replace_each_other(site, tmp_path):
    info = dataset_info("pocket")
    raw = tmp_path / "raw"
    (raw / "labels").mkdir(parents=True)
    (raw / "labels/val_1.png").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"brings labels/val_1.png, but .* other content"):
        download_archives(info, raw, mirror=Mirror(site.server.url))
    assert (raw / "labels/val_1.png").read_bytes() == b"mine"
    assert not (raw / "labels/val_2.png").exists() and not list(raw.glob(".unpack-*"))


def test_a_list_of_the_user_stands_above_the_published_digest(site, tmp_path, archives):
    info = site.publish(unpack_to="deep/down", num_bytes=7)
    names, lines = ["images.zip"], read_digests(site.digests)
    with pytest.raises(DataError, match="expected 7"):
        download_archives(info, tmp_path / "a", names=names)
    mirror = Mirror(site.server.url, lines)
    (found,) = download_archives(info, tmp_path / "b", names=names, mirror=mirror)
    assert found["stated_by"] == "the user's list of digests"
    assert (tmp_path / "b/deep/down/images/val_1.png").is_file()
