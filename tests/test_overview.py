"""One table across experiments: what it takes over, what it adds, what it refuses."""

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

import compare_methods
import render_overview
import render_table
from distillation.reporting.forest import draw_forest
from distillation.reporting.overview import PUBLISHED as COLUMNS
from distillation.reporting.overview import read_cells
from made import mistake
from made_up import write_runs

STYLE = "workflow/scripts/figures.mplstyle"
PUBLISHED = "data,teacher,student,method,value,epoch,source\n"
THEIRS = "digits,WRN-16-1,WRN-10-1,kd,74.92,last,A paper\ndigits,WRN-16-1,WRN-10-1,at,70,best,B\n"


def finish(folder: Path, held_out: bool = False) -> Path:
    """Write an experiment's table and comparison, of made-up runs; return the folder."""
    models = ("teacher", "baseline", "kd", "at")
    names = {"csv": "table.csv", "markdown": "table.md", "page": "table.html"}
    names |= {"summary": "summary.json", "provenance": "provenance.json"}
    files = [word for flag, name in names.items() for word in (f"--{flag}", str(folder / name))]
    render_table.main([*write_runs(folder, models, "", held_out), *files])
    runs = write_runs(folder / "again", models, "predictions.npz", held_out)
    outputs = ("comparison.csv", "seeds.csv", "fidelity.csv", "a.md", "a.html", "a.png", "a.svg")
    flags = ("comparison", "seeds", "fidelity", "markdown", "page", "figure", "figure-svg")
    files = [
        word
        for flag, name in zip(flags, outputs, strict=True)
        for word in (f"--{flag}", str(folder / name))
    ]
    pairs = ["--pair", "kd", "baseline", "--pair", "at", "baseline", "--resamples", "100"]
    compare_methods.main([*runs, *pairs, *files, "--style", STYLE])
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the results of an experiment."""
    return finish(tmp_path_factory.mktemp("overview"))


def flags(folder: Path, *experiments: str, published: str = PUBLISHED + THEIRS) -> list[str]:
    """Return flags of the script, with outputs in a folder."""
    table = folder / "published.csv"
    table.write_text(published)
    names = {"csv": "o.csv", "markdown": "o.md", "page": "o.html", "figure": "o.png"}
    names |= {"figure-svg": "o.svg"}
    files = [word for flag, name in names.items() for word in (f"--{flag}", str(folder / name))]
    return [*experiments, "--published", str(table), "--style", STYLE, *files]


def experiment(results: Path, name: str = "digits", metric: str = "top1_accuracy") -> list[str]:
    """Return the flag of an experiment."""
    return ["--experiment", name, "digits", metric, str(results)]


def test_a_row_of_each_method_of_each_experiment(finished: Path, tmp_path: Path) -> None:
    """Means, differences and intervals are those of the experiments' own tables."""
    both = [*experiment(finished), *experiment(finished, "again")]
    render_overview.main(flags(tmp_path, *both))
    table = pd.read_csv(tmp_path / "o.csv")
    assert [*zip(table["experiment"], table["method"], strict=True)] == [
        (name, method) for name in ("digits", "again") for method in ("baseline", "kd", "at")
    ]
    own = pd.read_csv(finished / "table.csv").set_index("quantity")
    compared = pd.read_csv(finished / "comparison.csv").set_index(["method", "contrast"])
    for row in table.to_dict("records"):
        assert row["mean"] == own.loc["Test accuracy", f"{row['method']}_mean"]
        gain = own.loc["Best minus last", f"{row['method']}_mean"]
        assert row["best"] == pytest.approx(row["mean"] + gain)
        if row["method"] != "baseline":
            theirs = compared.loc[row["method"], "difference"]
            for name in ("difference", "low", "high", "verdict"):
                assert row[name] == theirs[name]


def test_text_says_what_was_published_and_how_it_was_chosen(finished: Path, tmp_path: Path) -> None:
    """Published figures stand beside those of the same data, pair and method, with their epoch."""
    render_overview.main(flags(tmp_path, *experiment(finished)))
    text = (tmp_path / "o.md").read_text()
    beside = text.partition("## Beside what others published")[2]
    assert "; 74.92 (last, 1) |" in beside
    assert "; 70.00 (best, 2) |" in beside
    assert "1. A paper\n2. B\n" in beside
    assert text.count("Made up: WRN-16-1 → WRN-10-1") == 5
    provenance = json.loads((finished / "provenance.json").read_text())["runs"][0]["training"]
    _, _, made = text.partition("## How it was made")
    for told in (provenance["data_sha256"][:12], provenance["hardware"]):
        assert f"| {told}" in made
    both = [*experiment(finished), *experiment(finished, "again")]
    render_overview.main(flags(tmp_path, *both))
    # Two experiments of one title and pair have a row each.
    assert (tmp_path / "o.md").read_text().count("Made up: WRN-16-1 → WRN-10-1") == 10
    render_overview.main(flags(tmp_path, *experiment(finished)))
    assert "data:image/png" in (tmp_path / "o.html").read_text()
    assert "## Beside" not in (
        render_overview.main(flags(tmp_path, *experiment(finished), published=PUBLISHED))
        or (tmp_path / "o.md").read_text()
    )


def test_held_out_images_are_called_so(finished: Path, tmp_path: Path) -> None:
    """Experiments on held-out images stand beside those on test images, and are told apart."""
    held_out = finish(tmp_path / "held_out", held_out=True)
    render_overview.main(flags(tmp_path, *experiment(held_out, "tried"), *experiment(finished)))
    table = pd.read_csv(tmp_path / "o.csv")
    assert table["held_out"].tolist() == [True] * 3 + [False] * 3
    assert table["mean"].tolist() == 2 * table["mean"].tolist()[:3]
    text = (tmp_path / "o.md").read_text()
    assert "| Made up: WRN-16-1 → WRN-10-1, on held-out images |" in text


def test_best_epoch_is_of_the_accuracy_alone(finished: Path, tmp_path: Path) -> None:
    """Of another metric no epoch but the last is known, and none is made up."""
    render_overview.main(flags(tmp_path, *experiment(finished, metric="cross_entropy")))
    table = pd.read_csv(tmp_path / "o.csv")
    assert not math.isnan(table["mean"].to_numpy().sum())
    assert [*map(math.isnan, table["best"])] == [True] * 3


def test_other_metrics_stand_beside_no_accuracy(finished: Path, tmp_path: Path) -> None:
    """Another metric than the accuracy has its own decimals, and no published accuracy beside."""
    render_overview.main(flags(tmp_path, *experiment(finished, metric="cross_entropy")))
    text = (tmp_path / "o.md").read_text()
    assert "## Beside what others published" not in text
    mean = pd.read_csv(tmp_path / "o.csv")["mean"][0]
    assert f"| {mean:.4f} ± " in text


def test_a_method_has_its_own_teacher(finished: Path, tmp_path: Path) -> None:
    """A method with a teacher of its own stands beside what was published of that teacher."""
    folder = shutil.copytree(finished, tmp_path / "own")
    content = json.loads((folder / "provenance.json").read_text())
    (teacher,) = (run for run in content["runs"] if run["model"] == "teacher")
    own = teacher | {"model": "kd_teacher"}
    own["training"] = own["training"] | {"network_title": "resnet8"}
    # Whichever stands first.
    content["runs"].insert(0, own)
    (folder / "provenance.json").write_text(json.dumps(content))
    published = pd.DataFrame(
        [
            ("digits", teacher, "WRN-10-1", "kd", value, "last", "A paper")
            for teacher, value in (("WRN-16-1", 70.0), ("resnet8", 71.0))
        ],
        columns=[*COLUMNS],
    )
    cells = read_cells("digits", "digits", folder, "Test accuracy", published)
    assert [cell.teacher for cell in cells] == ["WRN-16-1", "resnet8", "WRN-16-1"]
    assert {cell.pair for cell in cells} == {"Made up: WRN-16-1 → WRN-10-1"}
    assert [cell.published for cell in cells if cell.method == "kd"] == [71]


def test_each_experiment_has_a_heading_above_its_own_rows(finished: Path) -> None:
    """Of two experiments of one title and pair, each has its heading, and below it its points."""
    published = pd.DataFrame(columns=[*COLUMNS])
    one = read_cells("digits", "digits", finished, "Test accuracy", published)
    two = [replace(cell, experiment="again", difference=cell.difference + 1) for cell in one]
    figure = draw_forest([*one, *two], "Test accuracy", "%")
    (axes,) = figure.axes
    headings = {text.get_position()[1]: text.get_text() for text in axes.texts}
    assert headings == dict.fromkeys((0, 3), "Made up: WRN-16-1 → WRN-10-1")
    ticks = (label.get_text() for label in axes.get_yticklabels())
    names = dict(zip(axes.get_yticks(), ticks, strict=True))
    assert names == {1: "KD", 2: "at", 4: "KD", 5: "at"}
    lines = [line for line in axes.lines if line.get_marker() == "o"]
    points = [tuple(np.asarray(line.get_xydata(), float)[0]) for line in lines]
    cells = [cell for cell in (*one, *two) if cell.method != "baseline"]
    expected = zip((cell.difference for cell in cells), names, strict=True)
    assert points == [*expected]
    # Places count downwards.
    bottom, top = axes.get_ylim()
    assert bottom > top
    plt.close(figure)


def test_unlike_metrics_and_missing_tables_are_refused(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Experiments compared by different metrics, or without tables, give one line and no file."""
    unlike = [*experiment(finished), *experiment(finished, "again", "cross_entropy")]
    said = mistake(capsys, render_overview.main, flags(tmp_path, *unlike))
    assert "found metrics cross_entropy, top1_accuracy; allowed: one for all" in said
    said = mistake(capsys, render_overview.main, flags(tmp_path, *experiment(tmp_path)))
    assert "table.csv" in said
    assert not [*tmp_path.glob("o.*")]
