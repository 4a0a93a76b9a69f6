"""The config, checked and resolved: what the other rules ask. There are no rules here."""

import atexit
import re
import shlex
import sys
import time
from pathlib import Path

from snakemake.logging import logger

sys.path.insert(0, f"{workflow.basedir}/workflow/scripts")

from distillation.record.digest import know_sources, write_sources
from distillation.record.folder_digest import file_digest
from distillation.settings import estimates
from distillation.settings.base import SettingsError
from distillation.settings.config import check_files
from distillation.settings.estimates import Estimates
from distillation.settings.experiment import check_alike, data_code, data_flags, load_experiments
from distillation.settings.networks import describe_all
from distillation.settings.versions import other_versions

# Beside Snakemake's own records: digests of code that needn't be parsed again.
CODE_DIGESTS = Path(".snakemake/code_digests.json")
know_sources(CODE_DIGESTS)

try:
    check_files([*workflow.configfiles, *workflow.overwrite_configfiles])
    CONFIG, EXPERIMENTS = load_experiments(config)
except SettingsError as error:
    # One line: Snakemake would print its way through the library.
    sys.exit(f"error in the config: {error}")

ESTIMATES = {name: Estimates(experiment) for name, experiment in EXPERIMENTS.items()}

STARTED = time.monotonic()  # seconds

# What Snakemake repeats before every job without saying which; no setting leaves it out.
REPEATED = re.compile(r"Select jobs to execute\.\.\.|Execute \d+ jobs\.\.\.")
for handler in logger.handlers:
    # Its log file, and handlers of plug-ins, have all lines.
    if handler.name == "DefaultStreamHandler":
        handler.addFilter(lambda record: not REPEATED.fullmatch(str(record.msg)))
        tell_progress = handler.formatter.format_progress
        handler.formatter.format_progress = lambda message: tell_progress(message) + time_left()

# Once for each call of Snakemake, not in each job on a cluster.
if workflow.is_main_process:
    # What is built, by itself or by a file of it; Snakemake tells its targets only when all rules
    # are read.
    ASKED = [
        name
        for name in EXPERIMENTS
        if any(word == name or word.startswith(f"results/{name}/") for word in sys.argv)
    ]
    # A target, or a file of it.
    OVERVIEW = any(re.fullmatch(r"overview|results/overview\.\w+", word) for word in sys.argv)
    if OVERVIEW or "all" in sys.argv or not ASKED:
        ASKED = [*dict.fromkeys([*ASKED, *CONFIG.run])]
    for name in ASKED:
        if line := other_versions(EXPERIMENTS[name], Path(workflow.basedir, "requirements.lock")):
            logger.warning(f"warning: {line}")
    try:
        for name in ASKED:
            EXPERIMENTS[name].check_sources()
        describe_all(question for name in ASKED for question in EXPERIMENTS[name].questions())
        for name in ASKED:
            for method in EXPERIMENTS[name].students:
                EXPERIMENTS[name].check_pair(method)
        if OVERVIEW:
            check_alike([EXPERIMENTS[name] for name in CONFIG.run])
        for line in [line for name in ASKED for line in EXPERIMENTS[name].equal_cost_lines()]:
            logger.warning(line)
    except SettingsError as error:
        sys.exit(f"error in the config: {error}")


def tell_plan():
    """Say what a dry run has planned, when it has."""
    if workflow.dryrun and workflow._dag:
        # Steps of seconds, which a scheduler isn't told of, have no minutes; targets are no steps.
        jobs = [job for job in workflow.dag.needrun_jobs(exclude_finished=False) if job.output]
        if minutes := [job.resources.get("runtime") or 0 for job in jobs]:
            devices = {EXPERIMENTS[name].choices.device for name in ASKED}
            print(estimates.plan_line(minutes, sorted(devices)), file=sys.stderr)


def tell_pages():
    """Say where the pages are, if all that they need is there, whether anything ran or not."""
    # Other commands than a run (--summary) have no executor. A graph with nothing to do is false.
    ran = workflow._executor_plugin and not workflow.dryrun and workflow._dag is not None
    if ran and not [*workflow.dag.needrun_jobs()]:
        for job in workflow.dag.jobs:
            if job.rule.name == "render_index":
                print(Path(job.output.index).resolve())


# After the last words of Snakemake itself.
if workflow.is_main_process:
    atexit.register(tell_plan)
    atexit.register(tell_pages)


# All digests are known by now, and jobs on a cluster ask for theirs again.
onstart:
    if workflow.is_main_process:
        write_sources(CODE_DIGESTS)


def weight_of(jobs):
    """Return what jobs count for in the time that is left; targets are no steps."""
    return sum(estimates.weight(job.resources.get("runtime") or 0) for job in jobs if job.output)


def time_left():
    """Return what Snakemake's line of progress says of the time that is left for the whole run."""
    left = weight_of(workflow.dag.needrun_jobs())
    total = weight_of(workflow.dag.needrun_jobs(exclude_finished=False))
    return estimates.time_left(left, total, time.monotonic() - STARTED)


def experiment(wildcards):
    """Return the experiment of a job."""
    return EXPERIMENTS[wildcards.experiment]


def estimate(wildcards):
    """Return the estimates of a job's experiment."""
    return ESTIMATES[wildcards.experiment]


def job_threads(wildcards):
    """Return how many threads a job of an experiment takes."""
    return experiment(wildcards).choices.threads


def gpus(wildcards):
    """Return how many GPUs a job of an experiment takes."""
    return int(experiment(wildcards).on_gpu)


def time_limit(wildcards, resources):
    """Return the flag that tells a training when the scheduler will end it; none on this machine.

    A function of the resources is no param that Snakemake compares.
    """
    minutes = max(0, resources.runtime - estimates.SPARE_MINUTES)
    return ["--time-limit", str(minutes)] if workflow.remote_exec else []


def command(wildcards, resources):
    """Return what was typed; as with the time limit, Snakemake doesn't compare it."""
    return shlex.join(["snakemake", *sys.argv[1:]])


def measure_group(wildcards):
    """Return the group of a model's short steps, where a profile says how many make one job.

    Those of the students need the teacher's, which therefore go ahead in a group of their own.
    Without `group-components` of that name each step is a job, as on one machine.
    """
    student = wildcards.model in experiment(wildcards).choices.methods
    name = "measure" if student else "measure_teacher"
    return name if name in workflow.group_settings.group_components else None


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


def reported(path, caption, category, name, experiment="{experiment}"):
    """Mark an output as part of the report, under a category, the experiment and its name."""
    return report(
        path,
        caption=f"../report/{caption}.rst",
        category=category,
        labels={"experiment": experiment, "what": name},
    )
