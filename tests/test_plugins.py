"""Plug-ins: each is one file that nothing else names."""

import csv
import json
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from jobs import MORE, TINY, Job, Snakemake, planned
from shell import ROOT

pytestmark = pytest.mark.workflow

LIBRARY = "workflow/scripts/distillation"
PLUGINS = {
    "terms/toy.py": '''\
"""A term: the logits stay small."""

from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from distillation import terms
from distillation.networks import Outputs
from distillation.settings.base import TermSettings


class Settings(TermSettings):
    """Mean square of the logits above a bound."""

    label: ClassVar[str] = "Toy term"
    needs: ClassVar[Literal["nothing", "logits", "stages"]] = "nothing"

    bound: float = Field(1, ge=0, description="from which logits are large")


class Term(terms.Term):
    """Mean over N and K of the excess, squared."""

    def __init__(self, settings: Settings, pair: terms.Pair) -> None:
        super().__init__()
        self.bound = settings.bound

    def forward(self, student: Outputs, teacher: Outputs, labels: Tensor) -> Tensor:
        """Return the term of a batch, a scalar."""
        return (student.logits.abs() - self.bound).clamp(min=0).square().mean()
''',
    "networks/toy.py": '''\
"""A network of two convolutions, and as many stages."""

from collections.abc import Iterator

from pydantic import Field
from torch import Tensor, nn

from distillation.networks import Network, Outputs
from distillation.settings.base import NetworkSettings


class Settings(NetworkSettings):
    """Two convolutions."""

    channels: int = Field(ge=1, description="of both")

    @property
    def title(self) -> str:
        """The network's name in tables and figures."""
        return f"toy-{self.channels}"


def build(settings: Settings, classes: int, channels: int) -> "Toy":
    """Build the network that the settings describe."""
    return Toy(settings.channels, classes, channels)


class Toy(Network):
    """Two convolutions with batch norm, of which the second halves the side."""

    def __init__(self, width: int, classes: int, channels: int) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(nn.Conv2d(inner, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width))
            for inner, stride in ((channels, 1), (width, 2))
        )
        self.classifier = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Outputs:
        """Return logits and stages."""
        first = self.parts[0](images)
        second = self.parts[1](first.relu())
        return Outputs(self.classifier(second.relu().mean(dim=(2, 3))), [first, second])

    def activated(self, stages: list[Tensor]) -> list[Tensor]:
        """Return the stages after ReLU."""
        return [stage.relu() for stage in stages]

    def blocks(self) -> Iterator[nn.Module]:
        """Yield both parts."""
        yield from self.parts
''',
    "formats/toy.py": '''\
"""Images of noise that is brighter in one class."""

from pathlib import Path

import numpy as np
from pydantic import Field

from distillation.settings.base import FormatSettings, Sizes


class Settings(FormatSettings):
    """Noise in two classes."""

    images: int = Field(ge=4, description="of each split")

    def sizes(self) -> Sizes:
        """Return counts and shape of the images."""
        return Sizes(train=self.images, test=self.images, side=8, channels=1, classes=2)


def read(settings: Settings, folder: Path, threads: int) -> dict[str, np.ndarray]:
    """Return the arrays of both splits."""
    generator = np.random.default_rng(0)
    labels = np.arange(settings.images) % 2
    arrays = {"class_names": np.array(["dark", "bright"])}
    for split in ("train", "test"):
        noise = generator.integers(0, 100, (settings.images, 8, 8, 1))
        arrays[f"{split}_images"] = (noise + 100 * labels[:, None, None, None]).astype(np.uint8)
        arrays[f"{split}_labels"] = labels.astype(np.int64)
    return arrays
''',
    "metrics/toy.py": '''\
"""Mean largest logit."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor

from distillation.settings.base import MetricSettings


class Settings(MetricSettings):
    """The largest logit of each image."""

    label: ClassVar[str] = "Toy metric"
    unit: ClassVar[str] = "logits"
    decimals: ClassVar[int] = 1
    higher_is_better: ClassVar[bool | None] = None
    reason: ClassVar[str] = "none"

    smallest_difference: float = Field(0.1, gt=0, description="in logits")


def measure(logits: Tensor, labels: Tensor, teacher_logits: Tensor | None) -> Tensor:
    """Return the largest logit of each image, (N,)."""
    return logits.amax(dim=1).double()
''',
}
CONFIG = """\
run: [toy]
data: {toy: {format: toy, images: 24}}
experiments:
  toy:
    extends: tiny
    title: Toys
    data: toy
    seeds: [0]
    teacher: {network: {toy: {channels: 8}}}
    student: {network: {toy: {channels: 4}}}
    methods: {toy: {label: Toy, toy: {weight: 0.5, bound: 0.1}, renamed: {}}}
    students: [baseline, toy]
    evaluation: {metrics: {toy: {}, expected_calibration_error: null}}
    comparison: {metric: toy}
"""


def renamed(content: dict) -> dict:
    """Return a config whose methods call the term at otherwise."""
    for part in (content.get("defaults", {}), *content["experiments"].values()):
        for method in part.get("methods", {}).values():
            if "at" in method:
                method["renamed"] = method.pop("at")
    return content


class Toys(NamedTuple):
    """A tree with the plug-ins, and the jobs that two changes made stale before they were run."""

    tree: Path
    after_adding: set[Job]
    after_renaming: set[Job]


@pytest.fixture(scope="module")
def toys(finished: Path, snakemake: Snakemake, tmp_path_factory: pytest.TempPathFactory) -> Toys:
    """Add the plug-ins to a finished run, rename the term at, and train with both."""
    tree = shutil.copytree(finished, tmp_path_factory.mktemp("toys") / "tree")
    for name, code in PLUGINS.items():
        (tree / LIBRARY / name).write_text(code)
    after_adding = planned(snakemake, tree, "all", "--configfile", TINY, MORE)
    (tree / LIBRARY / "terms/at.py").rename(tree / LIBRARY / "terms/renamed.py")
    for name in ("config.yaml", TINY):
        content = renamed(yaml.safe_load((ROOT / name).read_text()))
        (tree / name).write_text(yaml.safe_dump(content, sort_keys=False))
    after_renaming = planned(snakemake, tree, "tiny", "--configfile", TINY)
    (tree / "toy.yaml").write_text(CONFIG)
    done = snakemake(tree, "--cores", "2", "toy", "--configfile", TINY, "toy.yaml")
    assert done.returncode == 0, done.stdout
    return Toys(tree, after_adding, after_renaming)


def test_new_plugins(toys: Toys) -> None:
    """A term, a network, a format and a metric are one file each, and rerun nothing else."""
    results = toys.tree / "results/toy"
    with (results / "table.csv").open() as file:
        rows = {row["quantity"]: row for row in csv.DictReader(file)}
    assert rows["Toy metric"]["toy_n"] == "1"
    assert any(name.startswith("Toy term") for name in rows)
    assert "Expected calibration error" not in rows
    provenance = json.loads((results / "toy/seed_0/metrics.json").read_text())
    assert provenance["training_provenance"]["network_title"] == "toy-4"
    used = provenance["training_provenance"]["plugins"]
    assert {"terms.toy", "terms.renamed", "terms.labels", "networks.toy"} == {*used}
    assert "Toy" in (results / "comparison.md").read_text()
    assert list((results / "claims").glob("*.png"))
    assert toys.after_adding == set()


def test_renamed_term(toys: Toys) -> None:
    """A term's name stands in its file's name and in the config, and nowhere else."""
    results = toys.tree / "results/toy"
    with (results / "toy/seed_0/history.csv").open() as file:
        assert {"renamed", "renamed_weight"} < {*next(csv.reader(file))}
    assert "AT loss" in (results / "table.md").read_text()
    # Students by the old name aren't taken for those by the new one.
    trained = {job.model for job in toys.after_renaming if job.rule == "train_student"}
    assert trained == {"at_kd", "fading_at"}
