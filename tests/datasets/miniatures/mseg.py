"""The raw folders of MSeg's five parts, made of their own miniatures."""

from pathlib import Path
from tempfile import TemporaryDirectory

from segbench.datasets.classes.mseg import PARTS
from tests.datasets.miniatures import build_raw


def build(folder: Path) -> None:
    """Write ``raw/<part>/`` for every part."""
    for part in PARTS:
        with TemporaryDirectory() as archives:
            raw = build_raw(part, Path(archives))
            assert raw is not None
            (folder / "raw").mkdir(parents=True, exist_ok=True)
            raw.rename(folder / "raw" / part)
