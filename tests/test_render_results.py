"""publish_results.py, render_results.py: the page of results is what the files beside it say."""

import json
import os
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import compare_methods
import publish_results
import render_results
import render_table
from distillation.measuring.answers import Answers, arrays_of
from distillation.measuring.kept import keep, measure_kept
from distillation.metrics import measure_metric
from distillation.reporting.studies import overview, protocol
from distillation.reporting.study import Study
from distillation.settings.arguments import run
from distillation.settings.base import MetricSettings
from distillation.settings.plugins import declared
from made_up import CLASSES, IMAGES, TERMS, write_runs
from shell import ROOT

DOCS = ROOT / "docs"
# Trained models and seeds of the made-up experiment.
NETWORKS = [(model, seed) for model in TERMS for seed in ((0,) if model == "teacher" else (0, 1))]
LAST_STEPS = (*publish_results.LAST_STEPS, *publish_results.OF_CLAIMS)
# Outputs of scripts that publishing doesn't take under the name of table or comparison.
NAMES = {"seeds": "comparison_seeds", "fidelity": "fidelity", "summary": "summary",
         "provenance": "provenance"}  # fmt: skip


def rendered(folder: Path) -> str:
    """Render the page of a folder named results, beside it, and return the text."""
    page = folder.with_suffix(".md")
    render_results.main(["--folder", str(folder), "--markdown", str(page)])
    return page.read_text()


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Return a copy of the published results, to be changed, quick to render: without networks."""
    without = shutil.ignore_patterns("seed_*")
    return shutil.copytree(DOCS / "results", tmp_path / "results", ignore=without)


def write_time(file: Path) -> None:
    """Write the times of a job as Snakemake does."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("s\tcpu_time\tmax_rss\n5.0\t4.0\t100.0\n")


def measure(results: Path) -> None:
    """Give each network of the made-up experiment logits, and the metrics that they have."""
    logits: dict[tuple[str, int], torch.Tensor] = {}
    for place, (model, seed) in enumerate(NETWORKS):
        folder = results / model / f"seed_{seed}"
        metrics = json.loads((folder / "metrics.json").read_text())
        arrays = dict(np.load(folder / "predictions.npz"))
        labels = torch.from_numpy(arrays["labels"])
        noise = torch.randn(IMAGES, CLASSES, generator=torch.Generator().manual_seed(place))
        predicted = torch.from_numpy(np.eye(CLASSES, dtype=np.float32)[arrays["predictions"]])
        own = logits[model, seed] = 20 + noise.clamp(-1, 1) + 3 * predicted
        for name, entry in metrics["metrics"].items():
            settings = cast(MetricSettings, declared("metrics", name)())
            answers = {settings.split: Answers(own, labels)}
            teacher = {settings.split: logits["teacher", 0]}
            found = measure_metric(name, settings, answers, teacher)
            assert found is not None
            entry["value"] = found.entry["value"]
            if found.per_image is not None:
                arrays[name] = found.per_image
        (folder / "metrics.json").write_text(json.dumps(metrics))
        np.savez(folder / "predictions.npz", allow_pickle=False, **arrays, logits=own.numpy())


def test_answers_to_training_images_are_kept(tmp_path: Path) -> None:
    """Where a metric is of training images, it is computed again from logits of these."""
    generator = torch.Generator().manual_seed(0)
    name, networks = "training_agreement", tmp_path / "networks"
    labels = torch.arange(40) % 4
    settings = cast(MetricSettings, declared("metrics", name)())
    answers = {}
    runs = [
        {"model": model, "seed": 0, "role": role, "training": {"teacher": {}},
         "evaluation": {"arguments": {"metric": {name: {}}}}}
        for model, role in (("teacher", "teacher"), ("kd", "student"))
    ]  # fmt: skip
    for one in runs:
        model = one["model"]
        answers[model] = {
            split: Answers(torch.randn(40, 4, generator=generator), labels)
            for split in ("test", "train")
        }
        (networks / model).mkdir(parents=True)
        np.savez(
            networks / model / "predictions.npz", allow_pickle=False, **arrays_of(answers[model])
        )
        teacher = {split: each.logits for split, each in answers["teacher"].items()}
        found = measure_metric(name, settings, answers[model], teacher)
        assert found is not None
        (networks / model / "metrics.json").write_text(json.dumps({"metrics": {name: found.entry}}))
        keep(networks / model, tmp_path / "kept" / model / "seed_0")
    runs[0]["training"] = {}
    again, per_image = measure_kept(tmp_path / "kept", runs[1], runs)
    agree = [answers[model]["train"].logits.argmax(1) for model in ("teacher", "kd")]
    expected = 100 * (agree[0] == agree[1]).double().mean().item()
    assert 0 < expected < 100
    assert again["metrics"][name]["value"] == expected
    assert not per_image


def test_a_table_across_experiments(kept: Path) -> None:
    """A table across experiments is a section: picture, words, and its own headings below."""
    folder = kept / "some_pairs"
    folder.mkdir()
    (folder / "overview.md").write_text(
        "# Across experiments\n\nMeans.\n\n## Differences\n\nNone.\n"
    )
    folder.with_suffix(".md").write_text("What they are.\n")
    _, _, section = rendered(kept).partition("## Some pairs, across experiments\n\n")
    assert section == (
        "What they are.\n\n![Differences to the baseline](results/some_pairs/overview.png)\n"
        "\nMeans.\n\n### Differences\n\nNone.\n"
    )


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with results and logs of an experiment, some of them empty files."""
    tree = tmp_path_factory.mktemp("done")
    results, logs = tree / "results/tiny", tree / "logs"
    style = ["--style", str(ROOT / "workflow/scripts/figures.mplstyle"), "--dpi", "50"]
    more = {
        render_table: ("table", "", []),
        compare_methods: ("comparison", "predictions.npz",
                          [*style, "--resamples", "100", "--pair", "kd", "baseline"]),
    }  # fmt: skip
    runs = {script: write_runs(results, TERMS, archive) for script, (_, archive, _) in more.items()}
    measure(results)
    for script, (stem, _, flags) in more.items():
        named = []
        for flag, words in script.OUTPUTS.items():
            file = f"{NAMES.get(flag, stem)}{words.partition(':')[0]}"
            named += [f"--{flag}", str(results / file)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(sys.modules, "__main__", script)
            script.main([*runs[script], *flags, *named])
    for name in (*publish_results.KEPT, publish_results.OF_TEACHER, "attention_metrics.csv",
                 "attention_metrics.json", "attention/seed_0.csv"):  # fmt: skip
        (results / name).parent.mkdir(exist_ok=True)
        (results / name).touch()
    (results / "claims.md").write_text("# Claims\n\n| claim | verdict |\n| --- | --- |\n")
    description = json.loads((DOCS / "results/digits/data.json").read_text())
    (tree / "results/data").mkdir()
    (tree / "results/data/tiny.json").write_text(json.dumps(description | {"sha256": "data"}))
    (tree / "results/data/other.json").write_text(json.dumps(description))
    for name in ("prepare_data/tiny", "train_teacher/tiny/teacher/seed_0",
                 "measure_attention/tiny/seed_0",
                 *(f"{step}/tiny" for step in LAST_STEPS)):  # fmt: skip
        write_time(logs / f"{name}.tsv")
    for model, seed in NETWORKS:
        for step in (*publish_results.STEPS, *["train_student"] * (model != "teacher")):
            write_time(logs / step / "tiny" / model / f"seed_{seed}.tsv")
    return tree


@pytest.fixture(scope="module")
def published(done: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the made-up experiment, published."""
    folder = tmp_path_factory.mktemp("published") / "results" / "tiny"
    publish_results.main(publish_flags(done, folder))
    for name in ("introduction.md", "published.csv"):
        shutil.copy(DOCS / "results" / name, folder.parent)
    return folder


def publish_flags(tree: Path, folder: Path) -> list[str]:
    """Return the command line that publishes the made-up experiment."""
    return [
        *("--results", str(tree / "results/tiny"), "--headline", "Test accuracy"),
        *("--data-description", str(tree / "results/data/tiny.json")),
        *("--logs", str(tree / "logs"), "--command", "snakemake all", "--published", "cifar10"),
        *("--folder", str(folder), "--resamples", "100"),
    ]


def test_the_page_is_up_to_date(tmp_path: Path) -> None:
    """Rendered again, docs/results.md is letter by letter what the repository has."""
    whole = shutil.copytree(DOCS / "results", tmp_path / "results")
    assert rendered(whole) == (DOCS / "results.md").read_text()


def test_large_pictures_are_kept_small(tmp_path: Path) -> None:
    """A picture of many colours loses most of its bytes and little of each pixel; others none."""
    noise = np.random.default_rng(0).normal(0, 2, (600, 700, 3))
    levels = noise + np.linspace(30, 220, 700)[:, None]
    large, small = tmp_path / "large.png", tmp_path / "small.png"
    Image.fromarray(levels.round().clip(0, 255).astype(np.uint8)).save(large)
    Image.new("RGB", (8, 8), (1, 2, 3)).save(small)
    for file in (large, small):
        publish_results.keep_file(file, tmp_path / f"kept_{file.name}")
    assert (tmp_path / "kept_small.png").read_bytes() == small.read_bytes()
    kept = tmp_path / "kept_large.png"
    assert large.stat().st_size >= publish_results.LARGE
    assert kept.stat().st_size < large.stat().st_size / 2
    with Image.open(large) as before, Image.open(kept) as after:
        differences = np.array(before, float) - np.array(after.convert("RGB"), float)
    assert np.abs(differences).mean() < 3


def test_links_lead_somewhere() -> None:
    """Every figure and page that docs/results.md shows is there, none larger than 500 KB."""
    links = re.findall(r"\]\(([^)]+)\)", (DOCS / "results.md").read_text())
    assert links
    for link in links:
        if "://" not in link and not link.startswith("#"):
            assert 0 < (DOCS / link).stat().st_size < 500_000, link


def test_overview(kept: Path) -> None:
    """The first table has accuracies and epochs as the tables of each study, and leads there.

    It has the methods of several studies; others stand in the table of their own.
    """

    def cells(text: str, start: str) -> list[str]:
        line = next(line for line in text.splitlines() if line.startswith(start))
        return line.removeprefix(start).strip(" |").split(" | ")

    top, *sections = re.split(r"^## ", rendered(kept), flags=re.M)
    # What the row was called at first, and is since; of the test split, and of held-out images.
    named = ("Test (validation) accuracy (%)", "Test accuracy (%)", "Held-out accuracy (%)")
    names, rows = cells(top, f"| {' / '.join(named)}"), [f"| {name} |" for name in named]
    assert names == ["Teacher", "Baseline", "KD", "AT", "AT+KD", "DIST", "DKD"]
    # Tables across experiments are no studies.
    sections = [each for each in sections if ", across experiments\n" not in each]
    titles = [section.splitlines()[0] for section in sections]
    anchors = dict(re.findall(r"^\| \[(.+)\]\(#(.+?)\) \|", top, flags=re.M))
    folders = {json.loads(file.read_text())["title"]: file.parent.name
               for file in kept.glob("*/study.json")}  # fmt: skip
    assert list(anchors) == titles
    assert anchors["CIFAR-10 (JPEG copy), brief protocol"] == "cifar-10-jpeg-copy-brief-protocol"
    for title, section in zip(titles, sections, strict=True):
        own = {}
        heads = cells(section, "| | network |")
        # The head of the study's table, which says n; other tables begin alike.
        table = re.split(r"(?=^\| \| Teacher.* \(n = )", section, maxsplit=1, flags=re.M)[1]
        accuracy = next(row for row in rows if row in table)
        best = "| Best minus last (points)"
        if best in table:
            gains = [gain.partition(" ±")[0] for gain in cells(table, best)]
        else:
            # Tables from before there was that row; histories have each epoch's accuracy.
            history = pd.read_csv(kept / folders[title] / "history.csv")
            epochs = history.pivot_table(index=["model", "seed"], columns="epoch",
                                         values="test_accuracy")  # fmt: skip
            last = epochs.ffill(axis=1).iloc[:, -1]
            means = (100 * (epochs.max(axis=1) - last)).groupby("model").mean().to_dict()
            gains = [f"{means[model]:.2f}" for model in history["model"].unique()]
        for place, column in enumerate(cells(table, "| | ")):
            cell, more = cells(table, accuracy)[place], f", best epoch + {gains[place]}"
            name, count = column.removesuffix(")").split(" (")
            # The first column is the name, which `cells` leaves out.
            protocol = dict(zip(["network", *heads], cells(section, f"| {name} |"), strict=True))
            own[name] = f"{cell} ({count}, epochs = {protocol['epochs']}{more})"
        found = dict(zip(names, cells(top, f"| [{title}](#{anchors[title]})"), strict=True))
        assert found == {name: own.get(name, "-") for name in names}


def test_a_teacher_that_was_brought_has_no_epochs(kept: Path) -> None:
    """It was trained elsewhere, which the table of all studies and that of trainings say."""
    file = kept / "digits/provenance.json"
    content = json.loads(file.read_text())
    for one in content["runs"]:
        if one["model"] == "teacher":
            one["training"]["source_sha256"] = "5a" * 32
            one["training"]["arguments"]["epochs"] = 0
    file.write_text(json.dumps(content))
    study = Study(kept / "digits")
    (row,) = (line for line in overview([study, study]) if line.startswith("| [") and "-1)" in line)
    assert "(n = 1, trained elsewhere" in row
    (row,) = (line for line in protocol(study) if line.startswith("| Teacher |"))
    assert "| trained elsewhere |" in row


def test_studies_of_one_title_stand_each_in_a_row(kept: Path) -> None:
    """A study that has another's title has a row of its own, which leads to its own section."""
    studies = [Study(kept / name) for name in ("digits", "digits", "controls_brief")]
    lines = [line for line in overview(studies) if line.startswith("| [")]
    assert len(lines) == 3
    anchors = [line.partition("](#")[2].partition(")")[0] for line in lines]
    assert anchors[1] == f"{anchors[0]}-1"


def test_best_epochs_of_earlier_studies_follow_histories(kept: Path) -> None:
    """What the best epoch would have reported more is found where no table has it."""
    file = kept / "cifar10_brief/history.csv"
    history = pd.read_csv(file)
    history.loc[(history["model"] == "kd") & (history["epoch"] == 2), "test_accuracy"] = 0.99
    history.to_csv(file, index=False)
    last = history[(history["model"] == "kd") & (history["epoch"] == 4)]["test_accuracy"].mean()
    gain = f"{99 - 100 * last:.2f}"
    assert float(gain) > 10
    assert f"84.34 ± 0.12 (n = 3, epochs = 4, best epoch + {gain})" in rendered(kept)


def test_words_of_an_earlier_rule_are_not_repeated(kept: Path) -> None:
    """Of studies from before there was one rule, verdicts stay where they were published."""
    page, earlier = rendered(kept), 0
    for file in kept.glob("*/study.json"):
        folder, about = file.parent, json.loads(file.read_text())
        section = page.partition(f"\n## {about['title']}\n")[2].partition("\n## ")[0]
        if "contrast" in pd.read_csv(folder / "comparison.csv"):
            continue
        earlier += 1
        words = pd.read_csv(folder / "comparison.csv")["sentence"]
        assert (folder / "comparison.md").read_text().count("\n- ") > len(words)
        assert not any(sentence in section for sentence in words)
        assert not re.search("Detectable|distinguishable|would be missed", section)
        assert f"[published at first](results/{folder.name}/comparison.md)" in section
        if (folder / "claims.md").is_file():
            assert f"[claims.md](results/{folder.name}/claims.md)" in section
            assert not re.search(r"\*\*(holds|does not hold|holds in part)\*\*", section)
    assert earlier


def test_numbers_follow_the_files(kept: Path) -> None:
    """A number that is changed in a file is changed on the page: nothing is typed by hand."""
    before = rendered(kept)
    timings = kept / "digits/timings.csv"
    table = pd.read_csv(timings)
    table["seconds"] = 7200.0
    table.to_csv(timings, index=False)
    after = rendered(kept)
    assert f"Together {2 * len(table):.1f} hours" in after
    assert f"Together {2 * len(table):.1f} hours" not in before


def test_held_out_images_are_no_test_images(kept: Path) -> None:
    """A study that was measured on held-out training images says so, and comes after the others."""
    file = kept / "digits/data.json"
    description = json.loads(file.read_text())
    count = description["images"]["test"]["count"]
    said = f"and {count:,} {{}} images of"
    assert said.format("test") in rendered(kept)
    description["provenance"]["arguments"]["validation_fraction"] = 0.1
    file.write_text(json.dumps(description))
    page = rendered(kept)
    assert said.format("held-out training") in page
    assert page.index("\n## Cluttered digits") > page.index("\n## Fashion-MNIST")


def test_repeated_training_is_the_same() -> None:
    """What two studies trained alike, on two days, has the same losses and accuracies."""
    studies = {"cifar10_ablation": "baseline", "cifar10_schedule": "one_epoch"}
    first, second = (
        pd.read_csv(DOCS / "results" / study / "history.csv")
        .query("model == @model")
        .drop(columns=["model", "seconds", "images_per_second"])
        .dropna(axis="columns")
        .reset_index(drop=True)
        for study, model in studies.items()
    )
    assert len(first) == 3
    pd.testing.assert_frame_equal(first, second, check_exact=True)


def test_published_has_every_job(published: Path) -> None:
    """Times are those of every job, speeds those of every training; histories are complete."""
    jobs = pd.read_csv(published / "timings.csv")
    counts = Counter(jobs["step"])
    assert counts["train_teacher"] == 1
    assert counts["train_student"] == len(NETWORKS) - 1
    assert {counts[step] for step in publish_results.STEPS} == {len(NETWORKS)}
    assert {counts[step] for step in ("measure_attention", *LAST_STEPS)} == {1}
    assert set(jobs["seconds"] > 0) == {True}
    assert jobs["images_per_second"].notna().tolist() == [
        step.startswith("train_") for step in jobs["step"]
    ]
    assert len(pd.read_csv(published / "history.csv")) == 2 * len(NETWORKS)


def again(page: str) -> tuple[list[int], list[list[str]]]:
    """Return the counts of what a page computed again, and the rows of what came out otherwise."""
    section = page.partition("### Computed again\n")[2].partition("\n###")[0]
    said, *lines = section.strip().splitlines()
    return [int(count) for count in re.findall(r"\b\d+\b", said.partition("float16")[2])], [
        line.strip("| ").split(" | ") for line in lines[3:]
    ]


def test_numbers_come_out_of_what_is_kept(published: Path) -> None:
    """All numbers are computed from logits in float16; what that changes is told, not accuracy."""
    (count, otherwise), rows = again(rendered(published.parent))
    table, comparison, seeds, fidelity = (
        len(pd.read_csv(published / f"{name}.csv"))
        for name in ("table", "comparison", "comparison_seeds", "fidelity")
    )
    assert count == 4 * table + 11 * comparison + seeds + 3 * fidelity
    assert otherwise == len(rows)
    for what, printed, now in rows:
        assert not any(name in what for name in ("accuracy", "comparison", "Agreement"))
        step = 10.0 ** -len(printed.split()[0].partition(".")[2])
        assert float(now.split()[0]) == pytest.approx(float(printed.split()[0]), abs=1.01 * step)


def test_what_is_kept_is_enough(published: Path) -> None:
    """Accuracy of a seed, and the difference of two methods, follow from two files each."""
    accuracy = {}
    for model in ("baseline", "kd"):
        place = published / model / "seed_1"
        with np.load(place / "predictions.npz") as arrays:
            assert arrays["logits"].dtype == np.float16
            right = arrays["logits"].argmax(axis=1) == arrays["labels"]
        accuracy[model] = 100 * right.mean()
        told = json.loads((place / "metrics.json").read_text())
        assert told["metrics"]["top1_accuracy"]["value"] == pytest.approx(accuracy[model])
        assert not {"provenance", "training_provenance", "confusion_matrix"} & {*told}
    seeds = pd.read_csv(published / "comparison_seeds.csv").query("method == 'kd' and seed == 1")
    difference = accuracy["kd"] - accuracy["baseline"]
    assert seeds["difference"].tolist() == pytest.approx([difference])


def test_a_number_that_is_not_of_the_networks(published: Path, tmp_path: Path) -> None:
    """A published number that the networks' logits don't give is told with what they give."""
    folder = shutil.copytree(published.parent, tmp_path / "results")
    before = again(rendered(folder))[1]
    file = folder / "tiny/comparison_seeds.csv"
    seeds = pd.read_csv(file)
    true = seeds.loc[0, "difference"]
    seeds.loc[0, "difference"] = 12.34
    seeds.to_csv(file, index=False)
    (row,) = [row for row in again(rendered(folder))[1] if row not in before]
    assert row == ["comparison_seeds, kd baseline difference 0, difference", "12.34", f"{true:.2f}"]


def test_studies_without_predictions(kept: Path) -> None:
    """A study of which no predictions were kept has its page, which says so."""
    page = rendered(kept)
    without = [file.parent for file in kept.glob("*/study.json")
               if not [*file.parent.glob("*/seed_*/predictions.npz")]]  # fmt: skip
    assert without
    assert page.count("The networks' predictions weren't kept, so the numbers of") == len(without)


@pytest.mark.parametrize(("lowest", "kind"), [(-6e4, np.float16), (-1e5, np.float32)])
def test_logits_far_apart(done: Path, tmp_path: Path, lowest: float, kind: type) -> None:
    """Logits are kept in float16 as far as that reaches, and are none the worse beyond it."""
    tree = shutil.copytree(done, tmp_path / "tree")
    file = tree / "results/tiny/kd/seed_0/predictions.npz"
    arrays = dict(np.load(file))
    arrays["logits"][3] -= arrays["logits"][3].max()
    arrays["logits"][3, arrays["logits"][3].argmin()] = lowest
    np.savez(file, allow_pickle=False, **arrays)
    publish_results.main(publish_flags(tree, tmp_path / "folder"))
    with np.load(tmp_path / "folder/kd/seed_0/predictions.npz") as kept:
        assert kept["logits"].dtype == kind
        assert kept["logits"].min() == pytest.approx(lowest, rel=1e-3)
        assert (kept["logits"].argmax(axis=1) == arrays["logits"].argmax(axis=1)).all()


def test_mistakes_in_what_is_kept(published: Path, tmp_path: Path) -> None:
    """A network's file that is gone is one line that names it."""
    folder = shutil.copytree(published.parent, tmp_path / "results")
    (folder / "tiny/kd/seed_0/predictions.npz").unlink()
    refused(lambda: rendered(folder), "kd/seed_0/predictions.npz: no such file")


def test_beside_others(published: Path) -> None:
    """Figures of others stand below ours, under the method and the quantity that they are of."""
    text = rendered(published.parent)
    section = text.partition("### Beside what others published")[2].partition("###")[0]
    head, *lines = [line for line in section.splitlines() if line.startswith("|")]
    assert head == "| | | Teacher | Baseline | KD | at |"
    place = next(n for n, line in enumerate(lines) if line.startswith("| Test accuracy (%)"))
    assert re.fullmatch(r"\| .* \| ours( \| \d+\.\d\d){4} \|", lines[place])
    assert lines[place + 1] == "| | (1) | 89.91 | 88.4 | - | - |"
    assert lines[place + 2] == "| | (2) | 94.77 | 93.69 | 93.92 | 94.15 |"


def test_without_pairs_and_with_a_remark(published: Path, tmp_path: Path) -> None:
    """Where no two methods were compared, the page says just so; a remark stands in its section."""
    folder = shutil.copytree(published.parent, tmp_path / "results")
    (folder / "tiny.md").write_text("A remark.\n")
    file = folder / "tiny/comparison.md"
    head, _, rest = file.read_text().partition("\n\n")
    fidelity = rest[rest.index("## Fidelity") :]
    file.write_text(f"{head}\n\nNo two methods are compared.\n\n{fidelity}")
    text = rendered(folder)
    assert "A remark." in text.partition("## Made up")[2]
    section = text.partition("### Does a method help?")[2]
    said, _, rest = section.partition("### Fidelity to the teacher")
    assert said.strip() == "No two methods are compared."
    assert "## How it was computed" not in rest.partition("### Figures")[0]


def test_without_claims(done: Path, published: Path, tmp_path: Path) -> None:
    """Results can be published before attention was measured, where that is asked for."""
    copy = shutil.copytree(done, tmp_path / "copy")
    (copy / "results/tiny/claims.md").unlink()
    shutil.rmtree(copy / "logs/measure_attention")
    folder = shutil.copytree(published.parent, tmp_path / "results")
    publish_results.main([*publish_flags(copy, folder / "tiny"), "--without-claims"])
    steps = [
        set(pd.read_csv(file / "timings.csv")["step"]) for file in (folder / "tiny", published)
    ]
    assert steps[0] == steps[1] - {"measure_attention", "render_claims", "render_index"}
    assert "Not measured yet." in rendered(folder)


def test_resumed_training(done: Path, tmp_path: Path) -> None:
    """A training that was cut off has the time of all its epochs, not of its last attempt."""
    publish_results.main(publish_flags(done, tmp_path / "tiny"))
    jobs = pd.read_csv(tmp_path / "tiny/timings.csv").query("step == 'train_student'")
    # Each epoch took 10 seconds, the last attempt 5 by the job's own time.
    assert set(jobs["seconds"]) == {20}
    assert set(jobs["cpu_seconds"].isna()) == {True}


def test_students_that_were_trained_together(done: Path, tmp_path: Path) -> None:
    """One job for the students of a seed is one row, with the time of the job."""
    copy = shutil.copytree(done, tmp_path / "copy")
    steps = {"train_student": "train_students"}
    steps |= {step: f"{step}_students" for step in publish_results.STEPS}
    for own, together in steps.items():
        for file in (copy / "logs" / own / "tiny").glob("[!t]*/*"):
            file.unlink()
        for seed in (0, 1):
            write_time(copy / f"logs/{together}/tiny/seed_{seed}.tsv")
    # One that was measured by itself, at another time than those of its seed.
    alone = (
        copy / "results/tiny/at/seed_1/metrics.json",
        copy / "logs/evaluate/tiny/at/seed_1.tsv",
    )
    write_time(alone[1])
    for file in alone:
        os.utime(file, (1e9, 1e9))
    publish_results.main(publish_flags(copy, tmp_path / "tiny"))
    jobs = pd.read_csv(tmp_path / "tiny/timings.csv")
    for own, step in steps.items():
        together = jobs.loc[jobs["step"] == step]
        assert together["seed"].tolist() == [0, 1]
        assert set(together["model"].isna()) == {True}
        models = jobs.loc[jobs["step"] == own, "model"].tolist()
        teacher = ["teacher"] * (own != "train_student")
        assert models == teacher + ["at"] * (own == "evaluate")


def test_a_teacher_of_another_experiment(done: Path, tmp_path: Path) -> None:
    """A teacher's history and times are found where it was trained, and only if that is said."""
    copy = shutil.copytree(done, tmp_path / "copy")
    # What was measured on it lies with the experiment.
    for place in ("results/{}/teacher/seed_0/history.csv", "logs/train_teacher/{}/teacher"):
        (copy / place.format("first")).parent.mkdir(parents=True)
        shutil.move(copy / place.format("tiny"), copy / place.format("first"))
    flags = publish_flags(copy, tmp_path / "tiny")
    with pytest.raises(FileNotFoundError, match="see --teacher-results"):
        publish_results.main(flags)
    publish_results.main([*flags, "--teacher-results", str(copy / "results/first/teacher")])
    assert "train_teacher" in (tmp_path / "tiny/timings.csv").read_text()


def refused(main: Callable[[], Any], message: str) -> None:
    """Check that a script ends with one line that says something."""
    with pytest.raises(SystemExit, match=re.escape(message)) as stop:
        run(main)
    assert "\n" not in str(stop.value)


def test_mistakes_in_publishing(done: Path, tmp_path: Path) -> None:
    """An unfinished experiment is one line that names the file, and publishes nothing."""
    tree = shutil.copytree(done, tmp_path / "tree")
    other = (tree / "results/data/other.json").read_text()
    for file, content, message in (
        ("results/tiny/table.md", None, "table.md: no such file"),
        ("logs/evaluate/tiny/at/seed_1.tsv", None, "seed_1.tsv: no such"),
        ("results/data/tiny.json", other, "tiny.json: sha256 is"),
        ("results/tiny/table.csv", "quantity\nParameters\n",
         "--headline: found 'Test accuracy'; allowed: Parameters"),
    ):  # fmt: skip
        before = (tree / file).read_text()
        write(tree / file, content)
        refused(lambda: publish_results.main(publish_flags(tree, tmp_path / "folder")), message)
        assert not (tmp_path / "folder").exists()
        write(tree / file, before)


def test_what_is_no_study_is_left(done: Path, tmp_path: Path) -> None:
    """A folder with other files, as that of the results or of all studies, is not replaced."""
    tree = shutil.copytree(done, tmp_path / "tree")
    (tree / "studies/digits").mkdir(parents=True)
    for place in ("results/tiny", "studies"):
        before = sorted((tree / place).rglob("*"))
        message = f"{place}, which holds no study; allowed: a new folder"
        refused(lambda at=place: publish_results.main(publish_flags(tree, tree / at)), message)
        assert sorted((tree / place).rglob("*")) == before


def test_mistakes_in_rendering(kept: Path) -> None:
    """A file that is missing or damaged is one line that names it, and the page stays."""
    kept.with_suffix(".md").write_text("before")
    study = json.dumps(json.loads((kept / "digits/study.json").read_text()) | {"published": "mine"})
    for file, content, message in (
        ("digits/study.json", "{", "study.json: damaged"),
        ("digits/table.md", "nothing", "table.md: has no line"),
        ("digits/table.md", "| | Teacher |\n| --- | --- |\n| Loss | 1 |\n", "has no row 'Test"),
        ("digits/study.json", "{}", "study.json: lacks title, command"),
        ("published.csv", None, "published.csv"),
        ("published.csv", "data,source\n", "published.csv: lacks quantity, model, value"),
        # A quantity that no table has.
        ("published.csv", "data,source,quantity,model,value\nmine,somebody,Charm,kd,1\n",
         "quantity 'Charm'; allowed: Parameters"),
    ):  # fmt: skip
        before = (kept / file).read_text()
        write(kept / file, content)
        if "Charm" in message:
            write(kept / "digits/study.json", study)
        refused(lambda: rendered(kept), message)
        assert kept.with_suffix(".md").read_text() == "before"
        write(kept / file, before)


def write(file: Path, content: str | None) -> None:
    """Write a text over a file, or take the file away."""
    file.unlink() if content is None else file.write_text(content)
