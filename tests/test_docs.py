"""What the pages on plug-ins show works as it is written, and settings are told in full."""

import csv
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import yaml
from snakemake.utils import update_config

from distillation.data.dataset import Dataset
from distillation.settings.config import Method
from distillation.settings.experiment import Experiment, load_experiments
from shell import ENVIRONMENT, ROOT, shell_commands

# The Python blocks of each page, in order, by the files that they are.
PAGES = {
    "add-a-method": ["terms/logit_matching.py", "metrics/worst_class_accuracy.py"],
    "add-a-network": ["networks/plain.py", "formats/arrays.py"],
}
TEXTS = {page: (ROOT / f"docs/{page}.md").read_text() for page in (*PAGES, "teachers")}
SEVERAL = """\
import runpy, shlex, sys
for line in sys.stdin:
    sys.argv = shlex.split(line)
    runpy.run_path(sys.argv[0], run_name="__main__")
"""
RESOLVE = """\
import json, sys
from distillation.settings.experiment import load_experiments
for config in json.load(sys.stdin):
    for experiment in load_experiments(config)[1].values():
        experiment.artifacts()
print("torch" in sys.modules)
"""


def blocks(text: str, language: str) -> list[str]:
    """Return the code blocks in a language of a page, one by one."""
    parts = text.split(f"\n```{language}\n")[1:]
    return [part.partition("\n```")[0] + "\n" for part in parts]


def run_python(folder: Path, code: str, given: str) -> str:
    """Run code in a copy of the project, with its scripts at hand, and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=ENVIRONMENT | {"PYTHONPATH": str(folder / "workflow/scripts")},
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def extended(
    copy_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Return a copy of the project with the pages' plug-ins, and nothing else, added."""
    folder = copy_project(tmp_path_factory.mktemp("extended"))
    for page, files in PAGES.items():
        for file, block in zip(files, blocks(TEXTS[page], "python"), strict=True):
            assert f"{Path(file).name}`" in TEXTS[page]
            (folder / "workflow/scripts/distillation" / file).write_text(block)
    return folder


def test_pages_plugins_run(extended: Path, digits: Dataset) -> None:
    """The pages' files, written beside the others, train a student and measure it."""
    np.savez(
        extended / "arrays.npz", allow_pickle=False, class_names=np.array(digits.class_names),
        train_images=digits.train.images.numpy(), train_labels=digits.train.labels.numpy(),
        test_images=digits.test.images.numpy(), test_labels=digits.test.labels.numpy(),
    )  # fmt: skip
    (describe,) = shell_commands(TEXTS["add-a-network"])[-1:]
    (train,) = [line for line in shell_commands(TEXTS["add-a-method"]) if "--term" in line]
    data, teacher = "results/data/digits.npz", "results/digits/teacher/seed_0"
    commands = [
        f"prepare_data.py --format arrays source=arrays.npz --archive {data} --description d.json",
        f"train_teacher.py --data {data} --network plain layers=1 width=4 --epochs 1 --seed 0"
        f" --schedule cosine --batch-size 16 --padding 0 --checkpoint {teacher}/checkpoint.pt"
        f" --history {teacher}/history.csv",
        train.removeprefix("python workflow/scripts/"),
        f"evaluate.py --data {data} --checkpoint logits/checkpoint.pt --metrics metrics.json"
        " --predictions predictions.npz --metric worst_class_accuracy",
        describe.removeprefix("python workflow/scripts/"),
    ]
    given = "\n".join(f"workflow/scripts/{command}" for command in commands)
    said = run_python(extended, SEVERAL, given).splitlines()
    with (extended / "logits/history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["logit_matching_weight"]) for row in rows] == [0.5, 0.5]
    assert all(float(row["logit_matching"]) > 0 for row in rows)
    metrics = json.loads((extended / "metrics.json").read_text())["metrics"]
    assert metrics["worst_class_accuracy"]["label"] == "Test accuracy, worst class"
    assert json.loads(said[-1])["title"] == "plain-3x16"


def test_pages_config_lines(extended: Path) -> None:
    """Each block of config of the pages is taken as an overlay, and those of docs/ and benchmarks/.

    None needs torch, and each study's files may stand with image_folders.yaml or alone.
    """
    configs = []
    files = [
        *(["brief"], ["pairs_brief"], ["first_run"], ["pairs"], ["sixty"], ["sixty", "twenty"]),
        *(["sixty", "paper"], ["sixty", "across"], ["sixty", "controls"]),
        ["sixty", "controls", "controls_brief"],
    ]
    studies = [
        [(ROOT / f"docs/results/{name}.yaml").read_text() for name in names] for names in files
    ]
    folders = (ROOT / "docs/results/image_folders.yaml").read_text()
    named = {name for names in files for name in names}
    assert named == {path.stem for path in (ROOT / "docs/results").glob("*.yaml")} - {
        "image_folders"
    }
    overlays = [[block] for text in TEXTS.values() for block in blocks(text, "yaml")]
    overlays += [[*study, *more] for study in studies for more in ([], [folders])]
    for overlay in [*overlays, [(ROOT / "benchmarks/precision.yaml").read_text()]]:
        config = yaml.safe_load((ROOT / "config.yaml").read_text())
        for text in overlay:
            update_config(config, yaml.safe_load(text))
        configs.append(config)
    assert run_python(extended, RESOLVE, json.dumps(configs)) == "False\n"


def example(name: str) -> Experiment:
    """Return an experiment as a block of docs/teachers.md declares it."""
    (block,) = (text for text in blocks(TEXTS["teachers"], "yaml") if f"\n  {name}:\n" in text)
    config = yaml.safe_load((ROOT / "config.yaml").read_text())
    update_config(config, yaml.safe_load(block))
    return load_experiments(config)[1][name]


def test_methods_of_the_sweep_differ() -> None:
    """No two students of the page's sweep have the same terms."""
    sweep = example("sweep")
    told = [
        {name: term.plain() for name, term in sweep.terms[method].items()}
        for method in sweep.students
    ]
    assert len(told) == 4
    assert all(told.count(each) == 1 for each in told)


def test_controls_have_the_weight_of_what_they_control() -> None:
    """The page's controls of attention transfer differ from it in teacher or images alone."""
    controls = example("controls")
    found = {
        method: controls.terms[method]["at"].plain()
        for method in controls.students
        if "at" in controls.terms[method]
    }
    assert found["untrained_at"] == found["at"]
    assert found["shuffled_at"] == found["at"] | {"images": "next"}
    assert len(found) == 3


def test_settings_are_told(extended: Path) -> None:
    """Every plug-in's settings, a new one's too, are in the Markdown, with range and default."""
    script = "workflow/scripts/describe_settings.py"
    text = run_python(extended, SEVERAL, script)
    for files in PAGES.values():
        assert all(f"\n### {Path(file).stem}\n" in text for file in files)
    assert "| `smoothing` | a number from 0 to 1 | `0` | " in text
    assert "| `centred` | true or false | `false` | take each" in text
    assert "| `teacher.from` | a text or null | `null` | " in text
    for key in Method.model_fields:
        assert f"\n| `{key}` | " in text


def test_schema_of_settings() -> None:
    """The schema for editors takes the repository's configs, and no key that isn't known."""
    schema = json.loads(run_python(ROOT, SEVERAL, "workflow/scripts/describe_settings.py --schema"))
    validator = jsonschema.Draft202012Validator(schema)
    overlays = sorted((ROOT / "docs/results").glob("*.yaml"))
    assert len(overlays) > 4
    for file in (ROOT / "config.yaml", *overlays):
        assert not [*validator.iter_errors(yaml.safe_load(file.read_text()))], file
    for wrong in (
        {"defaults": {"training": {"epoch": 3}}},
        {"defaults": {"methods": {"kd": {"kd": {"temperature": 0}}}}},
        {"experiments": {"mine": {"student": {"network": {"wrn": {"alpha": 1}}}}}},
        {"data": {"mine": {"format": "digits", "channels": 3}}},
    ):
        assert [*validator.iter_errors(wrong)], wrong
