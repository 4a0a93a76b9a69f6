"""What files say of a network that is exported, for its model card."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from distillation.data.arrays import read_arrays
from distillation.reporting.intervals import Interval, bootstrap_mean
from distillation.reporting.metric import trained_on
from distillation.reporting.results import held_out_words
from distillation.settings import plugins
from distillation.settings.data import OfficialSettings
from distillation.settings.reports import Comparison

# Of the intervals over images: as comparisons have them.
CHOSEN = Comparison.model_construct()
PERCENT = f"{100 * CHOSEN.confidence:g} %"
# What a metric's mean, written to metrics.json, may differ from that of its values for each image.
ROUNDING = 1e-5


class Measure(NamedTuple):
    """A metric of the network, with an interval over images where it has values for each."""

    name: str
    label: str
    unit: str
    decimals: int
    value: float
    interval: Interval | None

    @property
    def written(self) -> str:
        """The value with its unit."""
        return f"{self.value:.{self.decimals}f} {self.unit}".rstrip()

    @property
    def span(self) -> str:
        """The interval, or a dash."""
        if self.interval is None:
            return "-"
        return f"{self.interval.low:.{self.decimals}f} to {self.interval.high:.{self.decimals}f}"


@dataclass
class Known:
    """What files say of a network beside what it says itself."""

    licence: str | None = None
    named: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    images: int = 0
    held_out: bool = False
    measures: list[Measure] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
    compared: bool = False

    @property
    def data_name(self) -> str | None:
        """What the data is called: as one said, or by its folder of images, or its format."""
        if self.named or not self.data:
            return self.named
        settings = self.data["provenance"]["arguments"]["format"][self.data["format"]]
        # Official archives have the name of their format, wherever they lie.
        official = issubclass(plugins.declared("formats", self.data["format"]), OfficialSettings)
        return self.data["format"] if official else Path(settings.get("source", "")).name or None

    @property
    def split(self) -> str:
        """The images that metrics were measured on."""
        return "held-out" if self.held_out else "test"


def read_json(path: Path, fields: Sequence[str]) -> dict[str, Any]:
    """Read a map that has at least some fields.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't JSON, or lacks one.
    """
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from error
    missing = [name for name in fields if not isinstance(content, dict) or name not in content]
    if missing:
        raise ValueError(f"{path}: lacks {missing[0]}; expected a map with {', '.join(fields)}")
    return content


def read_data(path: Path, training: Mapping[str, Any], image_size: int) -> dict[str, Any]:
    """Read the description of the data that a network was trained on, as prepare_data.py writes it.

    Args:
        path: of the description, .json.
        training: provenance of the network's training.
        image_size: side of the images that the network is exported for, in pixels.

    Raises:
        FileNotFoundError, ValueError: as `read_json`; or it is of other data, or of images of
            another size, of which its metrics would say nothing.
    """
    data = read_json(path, ("format", "images", "held_out", "sha256", "provenance"))
    if data["sha256"] != training.get("data_sha256"):
        raise ValueError(
            f"{path}: of data with sha256 {data['sha256']}; expected "
            f"{training.get('data_sha256')}, that of the network's training"
        )
    if (side := data["images"]["test"]["shape"][0]) != image_size:
        raise ValueError(
            f"--image-size: found {image_size}; allowed: {side}, that of the images of {path}"
        )
    return data


def read_measures(
    path: Path, predictions: Path | None, training: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Measure]]:
    """Read metrics.json, and with predictions.npz an interval of each metric over its images.

    Raises:
        FileNotFoundError, ValueError: as `read_json`; or one is of another network.
    """
    content = read_json(path, ("images", "held_out", "metrics", "training_provenance"))
    if content["training_provenance"] != training:
        raise ValueError(f"{path}: of another network; expected metrics of this checkpoint")
    per_image: dict[str, np.ndarray] = {}
    if predictions:
        archive = read_arrays(predictions, ())
        per_image = {name: archive[name] for name in content["metrics"] if name in archive}
    measures = []
    for name, entry in content["metrics"].items():
        # What is measured on training images tells nobody how good a network is.
        if trained_on(entry):
            continue
        interval = None
        if name in per_image:
            values = per_image[name]
            if not np.isclose(values.mean(), entry["value"], rtol=ROUNDING, atol=ROUNDING):
                raise ValueError(
                    f"{predictions}: {name} is {values.mean()} there, but {entry['value']} in "
                    f"{path}; allowed: files of one evaluation"
                )
            interval = bootstrap_mean(
                values, CHOSEN.confidence, CHOSEN.resamples, CHOSEN.bootstrap_seed
            )
        label = held_out_words(entry["label"]) if content["held_out"] else entry["label"]
        measures.append(
            Measure(name, label, entry["unit"], entry["decimals"], entry["value"], interval)
        )
    return content, measures


def check_compared(path: Path, method: str, training: Mapping[str, Any]) -> bool:
    """Return whether the provenance beside a comparison names this training, if it is there.

    Raises:
        ValueError: it names others of the method.
    """
    record = path.with_name("provenance.json")
    if not record.is_file():
        return False
    runs = read_json(record, ("runs",))["runs"]
    if training not in [run["training"] for run in runs if run["model"] == method]:
        raise ValueError(
            f"{path}: of other networks, as {record} has them; expected a comparison of this "
            f"checkpoint as {method}"
        )
    return True


def read_sentences(path: Path, method: str) -> list[str]:
    """Return what a comparison.csv says of a method.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such table, or has no such method.
    """
    try:
        table = pd.read_csv(path)
        rows = table[["method", "reference", "sentence"]]
    except (ValueError, KeyError) as error:
        raise ValueError(f"{path}: not a comparison of methods: {error}") from error
    known = sorted({*rows["method"], *rows["reference"]})
    if method not in known:
        raise ValueError(f"--method: found {method!r}; allowed: {', '.join(known)}")
    return rows["sentence"][(rows["method"] == method) | (rows["reference"] == method)].tolist()
