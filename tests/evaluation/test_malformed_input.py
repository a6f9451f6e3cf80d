"""Malformed input of every kind: one clear error by the real command, and nothing written."""

from __future__ import annotations

import subprocess
import sys

import pytest

from segbench.cli import main
from tests.evaluation import score_sets
from tests.evaluation.malformed_instances import INSTANCES, JSON_FILES
from tests.evaluation.malformed_maps import LABELS, SUBMISSIONS
from tests.evaluation.malformed_panoptic import PANOPTIC


def cases():
    """Return (name, set, change, words) of every case."""
    found = [(f"{kind}: {name}", kind, change, words) for name, kind, change, words in LABELS]
    for kind, rows in (
        ("instances", INSTANCES),
        ("panoptic", PANOPTIC),
        ("submission", SUBMISSIONS),
    ):
        found += [(f"{kind}: {name}", kind, change, words) for name, change, words in rows]
    for kind in ("instances", "panoptic"):
        for file in ("gt.json", "pred.json"):
            found += [
                (f"{kind}: {file}: {name}", kind, make(file), [file, *words])
                for name, make, words in JSON_FILES
            ]
    return found


CASES = {name: rest for name, *rest in cases()}
BY_PROCESS = (
    "pooled: all truncated",
    "instances: score NaN",
    "panoptic: pred.json: truncated JSON",
)


def in_process(arguments, monkeypatch, capfd):
    monkeypatch.setattr(sys, "argv", ["segbench", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return stopped.value.code, *capfd.readouterr()


def by_process(arguments, *_):
    command = [sys.executable, "-m", "segbench", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout, done.stderr


def run(call, made, *fixtures):
    """Run the commands of a set until one fails; return what the last one said."""
    for arguments in made.commands:
        code, out, err = call(arguments, *fixtures)
        if code:
            break
    return code, out, err


def refused(made, code, out, err, words):
    assert code in (1, 2), f"exit code {code}\n{out}\n{err}"
    assert out == ""
    assert "Traceback" not in err
    assert err.count("error: ") == 1, err
    message = err[err.index("error: ") :]
    missing = [word for word in words if word not in message]
    assert not missing, f"{missing} not in\n{message}"
    written = list(made.out.rglob("*")) if made.out.exists() else []
    assert written == []


@pytest.mark.parametrize("name", CASES)
@pytest.mark.fault(16, 17, 18)
def test_malformed_input_is_one_error(name, tmp_path, monkeypatch, capfd):
    kind, change, words = CASES[name]
    made = getattr(score_sets, kind)(tmp_path)
    change(made)
    refused(made, *run(in_process, made, monkeypatch, capfd), words)


@pytest.mark.parametrize("name", BY_PROCESS)
def test_the_installed_command_says_the_same(name, tmp_path):
    kind, change, words = CASES[name]
    made = getattr(score_sets, kind)(tmp_path)
    change(made)
    refused(made, *run(by_process, made), words)


@pytest.mark.parametrize("kind", sorted({kind for kind, *_ in CASES.values()}))
def test_the_sets_are_right_as_they_are(kind, tmp_path, monkeypatch, capfd):
    """So it is the change of a case, and nothing else, that is refused."""
    made = getattr(score_sets, kind)(tmp_path)
    code, _, err = run(in_process, made, monkeypatch, capfd)
    assert code == 0, err
    assert "warning" not in err
    assert (made.out / "scores.json").exists() or (made.out / "records.json").exists()


def test_there_are_cases_of_every_checklist():
    assert len(CASES) > 200
    assert len({kind for kind, *_ in CASES.values()}) == 7
