r"""Measure the attention maps of all networks of one seed on the whole test split.

Inputs: checkpoints, prepared data, and, for the methods that are compared with it, their teacher's
checkpoint. Outputs: a table (.csv) with a row per network, stage, collapse, point and metric: the
mean over the test images with its 95 % bootstrap interval; and its provenance (.json).
Beside each network stands one without training, drawn as that of its run was (also where it began
with a file of weights), whose batch norm knows the training images, as a control: measured once for
all networks that began as it, under the name untrained_ and the first of their methods; the column
control has that name in the rows of each of them. Points: before_activation (a stage's raw output,
as attention transfer takes it), after_activation (after the normalisation and activation that
follow). Stages are counted from 1; `stages` is their number. With a teacher, stages are paired by
size. What the metrics are is told in docs/outputs.md; those that don't apply have no row. Suffixes:
_pooled, of maps averaged to the size of the network's smallest; _constant, of one image, the data
set's mean, without interval; _noise, of random images; _chance, _centre, _other, what a random
position, a fixed prior at the centre and the mask of another image give; _shuffled, beside the
teacher's map of another image; of deletion and insertion, _random, _centre, _sobel, _grad_cam, in
another order, _minus_random, minus the random orders, and the name of any fill but the first.

Example:
    python workflow/scripts/measure_attention.py --data results/data/digits.npz \
        --network teacher 0 results/digits/teacher/seed_0/checkpoint.pt \
        --network at 0 results/digits/at/seed_0/checkpoint.pt \
        --teacher results/digits/teacher/seed_0/checkpoint.pt --taught at \
        --object-mask stored --metrics attention.csv --provenance attention.json --device cpu
"""

import argparse
import csv
import json
import math
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from distillation.data.arrays import read_arrays
from distillation.data.dataset import Dataset, read_dataset
from distillation.device import describe_device, prepare_device
from distillation.measuring.bootstrap import Estimate
from distillation.measuring.passes import measure_all
from distillation.measuring.study import POINTS, Name, Study
from distillation.measuring.subjects import Load, Source, read_subjects
from distillation.record.checkpoint import load_teacher
from distillation.record.files import replacing
from distillation.record.provenance import PACKAGES, describe_step, fingerprint
from distillation.settings.arguments import Parser, add_flags, run, taken
from distillation.settings.measures import AttentionMeasures
from distillation.settings.training import Machine

COLUMNS = (
    "model", "method", "control", "seed", "stage", "stages", "collapse", "point", "metric",
    "value", "low", "high",
)  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    flag = parser.add_argument
    flag("--data", type=Path, required=True, help="prepared data, .npz")
    flag(
        "--network", nargs=3, action="append", required=True,
        metavar=("METHOD", "SEED", "CHECKPOINT"),
        help="a network, .pt, with its method and the seed of its training; may be repeated",
    )  # fmt: skip
    flag("--teacher", type=Path, help="checkpoint of the teacher, .pt")
    flag("--taught", nargs="+", default=[], metavar="METHOD", help="compared with the teacher")
    flag("--metrics", type=Path, required=True, help="output, .csv")
    flag("--provenance", type=Path, required=True, help="output, .json")
    flag(
        "--object-mask", choices=("stored", "above_zero", "none"), required=True,
        help="where the object is: test_masks of the data, pixels above 0, or not known",
    )  # fmt: skip
    others = [name for name in AttentionMeasures.model_fields if name != "object_mask"]
    add_flags(parser, AttentionMeasures, *others)
    add_flags(parser, Machine)
    return parser.parse_args(argv)


def read_masks(path: Path, dataset: Dataset) -> np.ndarray:
    """Return the masks of the test images that the archive holds, bool (N, S, S).

    Raises:
        ValueError: it holds none, or none of that shape.
    """
    arrays = read_arrays(path, ())
    if "test_masks" not in arrays:
        raise ValueError(
            f"{path}: has no test_masks, but object_mask is stored; allowed: above_zero, none"
        )
    masks, shape = arrays["test_masks"], tuple(dataset.test.images.shape[:3])
    if masks.dtype != bool or masks.shape != shape:
        raise ValueError(
            f"{path}: test_masks is {masks.dtype} {masks.shape}; expected bool {shape}"
        )
    return masks


def read_sources(arguments: argparse.Namespace) -> list[Source]:
    """Return where the networks come from.

    Raises:
        ValueError: a seed is none.
    """
    for method, seed, _ in arguments.network:
        if not seed.isdecimal():
            raise ValueError(f"network {method}: seed is {seed!r}; allowed: a whole number from 0")
    return [Source(method, int(seed), Path(path)) for method, seed, path in arguments.network]


def tabulate(study: Study, estimates: dict[Name, Estimate]) -> Iterator[list[Any]]:
    """Yield the rows of the table, network by network; what isn't there is None."""
    collapses: list[str] = [*study.settings.collapses]

    def place(name: Name) -> tuple[int, int, int]:
        stage, collapse, point = name.key
        return stage, collapses.index(collapse), POINTS.index(point)

    for subject in study.subjects:
        own = [name for name in estimates if name.method == subject.method]
        for name in sorted(own, key=place):
            stage, *maps = name.key
            cells = [None if math.isnan(value) else value for value in estimates[name]]
            yield [
                *(subject.title, subject.method, subject.control, subject.seed),
                *(stage, subject.stages, *maps, name.metric, *cells),
            ]


def describe(arguments: argparse.Namespace, study: Study, load: Load) -> dict[str, Any]:
    """Return the table's provenance; of each network also the fingerprint of its training's."""
    contents = [load(source.checkpoint)[1] for source in read_sources(arguments)]
    taught_by = [load(arguments.teacher)[1]] if arguments.teacher else []
    families = {family for content in contents + taught_by for family in content["network"]}
    networks = [
        {
            **{name: getattr(subject, name) for name in ("method", "seed", "title", "control")},
            "training": fingerprint(content["provenance"]),
        }
        # After the networks come the untrained controls.
        for subject, content in zip(study.subjects, contents, strict=False)
    ]
    controls: dict[str, list[str]] = {}
    for subject in study.subjects:
        if subject.control:
            controls.setdefault(subject.control, []).append(subject.method)
    given = study.settings.plain() | taken(Machine, arguments).plain()
    return describe_step(
        argparse.Namespace(**given, taught=arguments.taught),
        (*PACKAGES, "scipy"),
        [("networks", family) for family in families],
        networks=networks,
        controls=controls,
        data_sha256=study.dataset.sha256,
        **describe_device(study.device),
    )


def main(argv: list[str] | None = None) -> None:
    """Measure all networks and their untrained controls, and write the table."""
    arguments = parse_args(argv)
    settings, sources = taken(AttentionMeasures, arguments), read_sources(arguments)
    device = prepare_device(arguments.device, arguments.threads)
    dataset = read_dataset(arguments.data)
    masks = read_masks(arguments.data, dataset) if settings.object_mask == "stored" else None
    # Each file is read once. What is checked of a teacher holds for any network that is measured.
    load = cache(partial(load_teacher, dataset=dataset, device=device))
    teacher = load(arguments.teacher)[0] if arguments.teacher else None
    subjects = read_subjects(
        sources, teacher, arguments.taught, settings.norm_images, dataset, load
    )
    study = Study(subjects, teacher, dataset, masks, settings, device)
    rows = list(tabulate(study, measure_all(study)))
    with replacing(arguments.metrics) as table, replacing(arguments.provenance) as description:
        with table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(rows)
        description.write_text(json.dumps(describe(arguments, study, load), indent=2) + "\n")
    print(
        f"{arguments.metrics}: {len(rows)} rows of {len(subjects)} networks, "
        f"{len(dataset.test.labels):,} images",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
