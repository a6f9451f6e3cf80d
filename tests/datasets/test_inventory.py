"""`segbench datasets`: what is known, here, prepared and missing."""

import json

import pytest

from segbench.cli import cli
from segbench.core.errors import ConfigError
from segbench.datasets import dataset_info, dataset_infos, prepare_dataset
from segbench.datasets.download.archives import Mirror, download_archives
from segbench.datasets.download.digests import read_digests
from segbench.datasets.download.inventory import folder_bytes, size_text
from tests.datasets.archive_maker import make_archives
from tests.datasets.fault_server import FaultServer
from tests.datasets.miniatures import builder_of, options_of


@pytest.fixture
def call(tmp_path, capsys):
    def run(*arguments):
        roots = ["--root", str(tmp_path / "data"), "--raw-root", str(tmp_path / "raw")]
        cli.main(["datasets", *arguments, *roots], standalone_mode=False)
        return capsys.readouterr().out

    return run


def listed(call, name):
    (row,) = [row for row in json.loads(call("--json")) if row["name"] == name]
    return row


def test_a_dataset_is_followed_from_nothing_to_prepared(call, tmp_path):
    row = listed(call, "voc2012")
    archives = [a.name for a in dataset_info("voc2012").archives if not a.optional]
    assert row["raw"] is None and row["prepared"] is None
    assert row["missing"] == archives and row["next"] == "segbench download voc2012"

    builder_of("voc2012")(tmp_path / "built")
    digests = make_archives(dataset_info("voc2012"), tmp_path / "built", tmp_path / "site")
    raw = tmp_path / "raw" / "voc2012"
    with FaultServer(folder=tmp_path / "site") as server:
        mirror = Mirror(server.url, read_digests(digests))
        download_archives(dataset_info("voc2012"), raw, names=archives[:1], mirror=mirror)
        assert listed(call, "voc2012")["missing"] == archives[1:]
        download_archives(dataset_info("voc2012"), raw, mirror=mirror)
    row = listed(call, "voc2012")
    assert row["missing"] == [] and row["next"] == "segbench prepare voc2012"
    assert row["raw"] == str(raw) and row["raw_bytes"] == folder_bytes(raw) > 0

    out = tmp_path / "data" / "voc2012"
    prepared = prepare_dataset("voc2012", out, raw=raw, options=options_of("voc2012"))
    row = listed(call, "voc2012")
    assert row["prepared"] == str(out) and row["next"] is None
    assert row["images"] == sum(prepared.description["splits"].values())
    assert row["prepared_bytes"] == sum(
        path.stat().st_size for path in out.rglob("*") if path.is_file()
    )
    assert f"{row['images']} images" in call().replace("\n", "")


@pytest.mark.fault(13)
def test_a_half_prepared_dataset_is_not_here(call, tmp_path):
    out = tmp_path / "data" / "digit_scenes"
    prepare_dataset("digit_scenes", out, options={"train": 1, "val": 1})
    (out / "dataset.json").unlink()
    row = listed(call, "digit_scenes")
    assert row["prepared"] is None and row["next"] == "segbench prepare digit_scenes"


def test_every_dataset_is_shown_with_all_that_is_known_of_it(call):
    for name, info in dataset_infos().items():
        text = call("show", name)
        for category in info.categories:
            assert "#{:02x}{:02x}{:02x}".format(*category.color) in text
        for word in (*info.splits, *info.protocols.values(), info.licence, info.citation):
            assert word in text
        shown = json.loads(call("show", name, "--json"))
        assert len(shown["categories"]) == len(info.categories)
        assert [a["name"] for a in shown["archives"]] == [a.name for a in info.archives]
        assert shown["here"]["prepared"] is None


def test_a_near_miss_is_suggested(call):
    with pytest.raises(ConfigError, match="Did you mean 'cityscapes'"):
        call("show", "cityscape")


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (19_300_000_000, "19 GB"), (None, None),
     (5_000_000_000_000, "5000 GB")],
)  # fmt: skip
def test_sizes_are_short(size, text):
    assert size_text(size) == text
