"""What a model file may say once, and the one module that it imports from."""

import subprocess
import sys

import pytest

from segbench.core.fingerprint import closure, code_fingerprint, forget
from segbench.models.options import builder_options
from segbench.models.registry import create_model, model_infos

SHARED = """
from segbench.models import register_model

PAPER = "A paper"
YEAR: int = 2024
TASK = "semantic"
MIN_BATCH = 2
OTHER = "Another paper"


@register_model("plain", display_name="Plain")
def plain(num_classes):
    return "plain"


@register_model("special", paper=OTHER, year=2025, display_name="Special", min_batch=1)
def special(num_classes):
    return "special"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("SEGBENCH_MODELS_PATH", str(tmp_path))
    return tmp_path


def test_what_a_file_states_once_holds_for_its_models(folder):
    (folder / "family.py").write_text(SHARED)
    infos = model_infos()
    found = {
        name: (i.task, i.paper, i.year, i.min_batch, i.also)
        for name in ("plain", "special")
        for i in [infos[name]]
    }
    assert found == {
        "plain": ("semantic", "A paper", 2024, 2, ()),
        "special": ("semantic", "Another paper", 2025, 1, ()),
    }
    assert create_model("plain", 3) == "plain"


def test_a_panoptic_file_states_its_other_tasks_once(folder):
    text = SHARED.replace('TASK = "semantic"', 'TASK = "panoptic"\nALSO = ("instance",)')
    (folder / "family.py").write_text(text)
    assert model_infos()["plain"].tasks == ("panoptic", "instance")


BROKEN = {
    "no paper": ('PAPER = "A paper"\n', "", "10: @register_model states no paper, and the file "
                 "has no PAPER"),
    "no task": ('TASK = "semantic"\n', "", "10: @register_model states no task, and the file has "
                "no TASK"),
    "a call": ("2024", "int('2024')", "5: @register_model needs a literal year, found int('2024')"),
    "a text": ("2024", "'2024'", "5: @register_model: year is '2024', expected a number"),
    "a name": ("paper=OTHER", "paper=NOWHERE", "16: @register_model needs a literal paper, found "
               "NOWHERE"),
    "a task": ('"semantic"', '"semantics"', "6: @register_model: task is 'semantics', expected "
               "one of semantic, instance, panoptic"),
    "no id": ('"plain", ', "", "11: @register_model needs an id"),
    "a typo": ("display_name", "display", "11: @register_model: "),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_what_is_missing_or_no_literal_is_one_error_with_its_line(folder, capfd, kind):
    old, new, message = BROKEN[kind]
    (folder / "family.py").write_text(SHARED.replace(old, new))
    infos = model_infos()
    assert "plain" not in infos and "fcn_8s" in infos
    err = capfd.readouterr().err
    assert f"{folder}/family.py:{message}" in err
    assert len(err.splitlines()) == 1


def test_constants_that_no_decorator_needs_are_not_read(folder):
    text = SHARED.replace('"Another paper"', "print()").replace("paper=OTHER, ", "")
    (folder / "family.py").write_text(text + "\nYEARS = [1, 2]\nfirst, second = YEARS\n")
    assert {"plain", "special"} <= set(model_infos())


def test_the_door_imports_torch_only_for_a_base():
    program = (
        "import sys\n"
        "import segbench, segbench.models\n"
        "from segbench.models import Prediction, register_model\n"
        "assert 'torch' not in sys.modules\n"
        "missing = set(segbench.models.__all__) - set(dir(segbench.models))\n"
        "from segbench.models import *\n"
        "assert 'torch' in sys.modules\n"
        "print(sorted(missing), SemanticModel.__name__, hasattr(segbench.models, 'nothing'))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    bases = ["MergedPrediction", "PanopticModel", "PanopticParts", "SemanticModel"]
    assert done.stdout.strip() == f"{[*bases, 'TwoStageDetector']} SemanticModel False"


TOY = """
class Toy(SemanticModel):
    pass


@register_model("toy", task="semantic", paper="P", year=2026, display_name="Toy")
def toy(num_classes, **options):
    return SemanticModel(num_classes, **options)
"""
DOOR = "from segbench.models import SemanticModel, register_model\n"
ORIGIN = (
    "from segbench.models.bases.semantic import SemanticModel\n"
    "from segbench.models.registry import register_model\n"
)


def test_a_name_from_the_door_means_what_it_means_at_its_origin(tmp_path):
    digests = set()
    for text in (DOOR + TOY, ORIGIN + TOY):
        (tmp_path / "toy.py").write_text(text)
        forget()
        digests.add(code_fingerprint([tmp_path / "toy.py"]))
    assert len(digests) == 1
    names = {f"{path.parent.name}/{path.name}" for path in closure([tmp_path / "toy.py"])}
    assert "bases/semantic.py" in names and "models/__init__.py" not in names


def test_options_are_checked_through_the_door(tmp_path):
    (tmp_path / "toy.py").write_text(DOOR + TOY)
    known = builder_options(tmp_path / "toy.py", 0, "toy")
    assert known.complete and known.annotations == {"aux_weight": "float"}
