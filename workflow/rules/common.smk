"""Helpers of the rules: paths, flags and digests. There are no rules here."""

import hashlib
import os
import sys
from functools import cache
from pathlib import Path

SCRIPTS = Path(workflow.basedir) / "workflow/scripts"
sys.path.insert(0, str(SCRIPTS))

from distillation import code  # the standard library only


def flags(settings):
    """Turn a map of settings into a list of flags, named alike; None is left out.

    They are sorted, so that the order of keys in a config file or overlay changes nothing.
    """
    result = []
    for key, value in sorted(settings.items()):
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            result.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            result += [flag, *map(str, value)]
        elif value is not None:
            result += [flag, str(value)]
    return result


@cache
def digest(script):
    """Return the digest of a script and of all that it imports."""
    return code.code_digest(SCRIPTS / script)


def file_digest(path):
    """Return the sha256 of a file's content, shortened to 16 digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


@cache
def folder_digest(folder):
    """Return a digest of names and contents of all files in a folder of images.

    It is kept under `.snakemake`, so that a large folder is read once and not at every dry run: as
    long as no file has another size, time or place on the disk.
    """
    # Links are followed, as the reader of the images does.
    walk = os.walk(folder, followlinks=True)
    files = sorted(Path(place, name) for place, _, names in walk for name in names)
    names = [path.relative_to(folder).as_posix() for path in files]
    states = [
        (name, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
        for name, status in zip(names, (path.stat() for path in files))
    ]
    known = Path(".snakemake/folders", hashlib.sha256(repr(states).encode()).hexdigest()[:16])
    if not known.exists():
        contents = repr([*zip(names, map(file_digest, files))])
        known.parent.mkdir(parents=True, exist_ok=True)
        unfinished = known.with_suffix(f".{os.getpid()}")
        unfinished.write_text(hashlib.sha256(contents.encode()).hexdigest()[:16])
        unfinished.replace(known)
    return known.read_text()


def run_folder(experiment, model, seed):
    """Return the folder of one trained model."""
    return f"results/{experiment}/{model}/seed_{seed}"


def teacher_seeds(experiment):
    """Return the seeds of the teachers of an experiment."""
    settings = EXPERIMENTS[experiment]
    return settings["seeds"] if settings["teacher"]["per_seed"] else [settings["teacher"]["seed"]]


def teacher_folder(experiment, seed):
    """Return the folder of the teacher of the students of a seed."""
    own = EXPERIMENTS[experiment]["teacher"]["per_seed"]
    return run_folder(experiment, "teacher", seed if own else teacher_seeds(experiment)[0])


def models(experiment):
    """List (model, seed) of all trained models of an experiment, in the order of the table."""
    settings = EXPERIMENTS[experiment]
    teachers = [("teacher", seed) for seed in teacher_seeds(experiment)]
    return teachers + [(name, seed) for name in settings["students"] for seed in settings["seeds"]]


def model_files(experiment, *names):
    """List the files called `names` of all trained models of an experiment."""
    folders = [run_folder(experiment, model, seed) for model, seed in models(experiment)]
    return [f"{folder}/{name}" for folder in folders for name in names]


def artifacts(experiment):
    """List all that an experiment makes: a failed rerun must leave nothing that looks finished."""
    data = f"results/data/{EXPERIMENTS[experiment]['data']}"
    reports = (
        "table.csv",
        "table.md",
        "table.html",
        "summary.json",
        "provenance.json",
        "figures",
        "comparison.csv",
        "comparison_seeds.csv",
        "fidelity.csv",
        "comparison.md",
        "comparison.html",
        "comparison.png",
        "comparison.svg",
        "attention_metrics.csv",
        "claims.md",
        "claims.html",
        "claims",
    )
    each = (
        "checkpoint.pt",
        "history.csv",
        "tensorboard",
        "metrics.json",
        "predictions.npz",
        "attention.npz",
        "attention_metrics.csv",
    )
    return [
        f"{data}.npz",
        f"{data}.json",
        *model_files(experiment, *each),
        *targets_files(experiment),
        *(f"results/{experiment}/{name}" for name in reports),
    ]


def from_table(experiment, method):
    """Return whether a method learns from a table of its teacher's logits."""
    return EXPERIMENTS[experiment]["methods"][method].get("teacher_targets") == "table"


def learns_from_teacher(experiment, method):
    """Return whether a method has a weight on what its teacher says."""
    return bool({"alpha", "beta"} & EXPERIMENTS[experiment]["methods"][method].keys())


def training_of(experiment, role, method=None):
    """Return the protocol of the teacher or the students, or of the students of one method."""
    settings = EXPERIMENTS[experiment]
    own = settings["methods"][method].get("training", {}) if method else {}
    return merged(merged(settings["training"], settings[role]["training"]), own)


def targets_files(experiment):
    """List the tables of logits that the students of an experiment learn from."""
    if not any(from_table(experiment, method) for method in EXPERIMENTS[experiment]["students"]):
        return []
    folders = [run_folder(experiment, "teacher", seed) for seed in teacher_seeds(experiment)]
    return [f"{folder}/targets.npz" for folder in folders]


def data_file(wildcards):
    """Return the prepared data of an experiment."""
    return f"results/data/{EXPERIMENTS[wildcards.experiment]['data']}.npz"


def data_description(wildcards):
    """Return the description of the data of an experiment."""
    return f"results/data/{EXPERIMENTS[wildcards.experiment]['data']}.json"


def on_gpu(wildcards):
    """Return how many GPUs a job of an experiment takes."""
    return int(EXPERIMENTS[wildcards.experiment]["device"] == "cuda")


def job_threads(wildcards):
    """Return how many threads a job of an experiment takes."""
    return EXPERIMENTS[wildcards.experiment]["threads"]


def machine(experiment):
    """Return what a job runs on, as settings."""
    settings = EXPERIMENTS[experiment]
    return {"device": settings["device"], "threads": settings["threads"]}


def data_flags(wildcards):
    return flags(config["data"][wildcards.data])


def data_source(wildcards):
    settings = config["data"][wildcards.data]
    if settings["format"] != "image_folder":
        return "checked against official digests"
    return folder_digest(settings["source"])


def training_flags(experiment, role, model, seed, training):
    settings = EXPERIMENTS[experiment]
    network = settings[role]
    state = {"seed": seed, "resume": f"resume/{experiment}/{model}/seed_{seed}.pt"}
    # YAML reads on and off as true and false.
    compile_ = {True: "on", False: "off"}.get(settings["compile"], settings["compile"])
    engine = {"precision": settings["precision"], "compile": compile_}
    return flags(
        {name: network[name] for name in ("depth", "width", "padding_mode")}
        | training
        | machine(experiment)
        | engine
        | state
    )


def teacher_flags(wildcards):
    training = training_of(wildcards.experiment, "teacher")
    return training_flags(wildcards.experiment, "teacher", "teacher", wildcards.seed, training)


def targets_flags(wildcards):
    """Return the students' augmentation, and how the teacher runs."""
    settings = EXPERIMENTS[wildcards.experiment]
    training = training_of(wildcards.experiment, "student")
    augmentation = {name: training[name] for name in ("padding", "flip")}
    precision = {"precision": settings["precision"]}
    return flags(augmentation | precision | machine(wildcards.experiment))


def student_teacher(wildcards):
    """Return the teacher's checkpoint, its table, or nothing for a method that uses neither."""
    folder = teacher_folder(wildcards.experiment, wildcards.seed)
    if from_table(wildcards.experiment, wildcards.method):
        return f"{folder}/targets.npz"
    taught = learns_from_teacher(wildcards.experiment, wildcards.method)
    return f"{folder}/checkpoint.pt" if taught else []


def student_flags(wildcards):
    experiment, method = wildcards.experiment, wildcards.method
    settings = EXPERIMENTS[experiment]["methods"][method].items()
    weights = {
        name: value for name, value in settings if name not in ("teacher_targets", "training")
    }
    name = "teacher_targets" if from_table(experiment, method) else "teacher"
    training = training_of(experiment, "student", method)
    return training_flags(experiment, "student", method, wildcards.seed, training) + flags(
        weights | {name: student_teacher(wildcards) or None}
    )


def teacher_file(name):
    """Make the input function of a file of a student's teacher, or of nothing for a teacher."""
    return lambda wildcards: (
        []
        if wildcards.model == "teacher"
        else f"{teacher_folder(wildcards.experiment, wildcards.seed)}/{name}"
    )


def evaluation_flags(wildcards):
    teacher = {"teacher_predictions": teacher_file("predictions.npz")(wildcards) or None}
    return flags(
        EXPERIMENTS[wildcards.experiment]["evaluation"] | machine(wildcards.experiment) | teacher
    )


def attention_flags(wildcards):
    return flags(EXPERIMENTS[wildcards.experiment]["attention"] | machine(wildcards.experiment))


def object_mask(experiment):
    """Return where the masks of the test images' objects come from: auto is what the data has."""
    asked = EXPERIMENTS[experiment]["attention_metrics"]["object_mask"]
    known = {"digits": "stored", "fashion_mnist": "above_zero"}
    data = config["data"][EXPERIMENTS[experiment]["data"]]
    return known.get(data["format"], "none") if asked == "auto" else asked


def measurement_flags(wildcards):
    experiment = wildcards.experiment
    settings = EXPERIMENTS[experiment]["attention_metrics"]
    teacher = {"teacher": teacher_file("checkpoint.pt")(wildcards) or None}
    network = {"method": wildcards.model, "seed": wildcards.seed}
    settings = settings | {"object_mask": object_mask(experiment)}
    return flags(settings | network | teacher | machine(experiment))


def pairs(experiment):
    """List the (method, reference) pairs that are compared: all with the baseline, and others."""
    settings = EXPERIMENTS[experiment]
    students = settings["students"]
    found = [[method, "baseline"] for method in students if method != "baseline"]
    found = found if "baseline" in students else []
    named = [pair for pair in settings["comparison"]["pairs"] if {*pair} <= {*students}]
    return found + [pair for pair in named if pair not in found]


def result_files(*names):
    """Make the input function that lists the files called `names` of all models."""
    return lambda wildcards: model_files(wildcards.experiment, *names)


def run_flags(experiment, *names):
    """Return the title and, for each trained model, its name, seed and files.

    With them go the keys of the training that methods have of their own.
    """
    settings = EXPERIMENTS[experiment]
    result = flags({"title": settings["title"]})
    for method in settings["students"]:
        if own := sorted(settings["methods"][method].get("training", {})):
            result += ["--own-training", method, *own]
    for model, seed in models(experiment):
        folder = run_folder(experiment, model, seed)
        result += ["--run", model, str(seed), *(f"{folder}/{name}" for name in names)]
    return result


def table_flags(wildcards):
    return run_flags(wildcards.experiment, "metrics.json", "history.csv")


def comparison_flags(wildcards):
    experiment = wildcards.experiment
    settings = dict(EXPERIMENTS[experiment]["comparison"])
    settings.pop("pairs")
    result = run_flags(experiment, "metrics.json", "history.csv", "predictions.npz")
    for method, reference in pairs(experiment):
        result += ["--pair", method, reference]
    return result + flags(settings | EXPERIMENTS[experiment]["figures"])


def claims_flags(wildcards):
    settings = EXPERIMENTS[wildcards.experiment]
    mask = object_mask(wildcards.experiment)
    students = settings["students"]
    attentive = [name for name in students if "beta" in settings["methods"][name]]
    named = {"title": settings["title"], "attention_methods": attentive, "object_mask": mask}
    return flags(named | settings["figures"])


def figure_flags(wildcards):
    names = ("metrics.json", "history.csv", "attention.npz")
    return run_flags(wildcards.experiment, *names) + flags(
        EXPERIMENTS[wildcards.experiment]["figures"]
    )


# The categories of the report, in the order of its menu.
RESULTS, CURVES, ATTENTION, CLAIMS = "1. Results", "2. Curves", "3. Attention maps", "4. Claims"


def figure_category(wildcards):
    """Return the category of a figure in the report, by its name."""
    if wildcards.name.startswith("curves"):
        return CURVES
    return ATTENTION if wildcards.name.startswith("attention") else RESULTS


def figure_labels(wildcards):
    """Return how a figure is listed in the report."""
    return {"experiment": wildcards.experiment, "what": wildcards.name.replace("_", " ")}


def reported(path, caption, category, name):
    """Mark an output as part of the report, under a category, the experiment and its name."""
    return report(
        path,
        caption=f"../report/{caption}.rst",
        category=category,
        labels={"experiment": "{experiment}", "what": name},
    )
