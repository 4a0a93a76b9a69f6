"""What does a small network learn from a large one? From data to a table and figures.

snakemake --cores 4 all          the experiments that config.yaml names under `run`
snakemake --cores 4 cifar10      one experiment, by its name
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    data="[a-z][a-z0-9_]*",
    experiment="[a-z][a-z0-9_]*",
    model="[a-z][a-z0-9_]*",
    # A method is a student: the teacher has a rule of its own.
    method="(?!teacher/)[a-z][a-z0-9_]*",
    seed="[0-9]+",


include: "workflow/rules/config.smk"
include: "workflow/rules/common.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/versions.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


# Steps of seconds that a cluster's login node runs itself; the first may need the network.
localrules:
    prepare_data,
    compare_methods,
    render_table,
    render_claims,
    render_figures,


rule all:
    default_target: True
    input:
        [artifacts(experiment) for experiment in config["run"]],


for experiment in EXPERIMENTS:

    rule:
        name:
            experiment
        input:
            artifacts(experiment),
