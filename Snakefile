"""What does a small network learn from a large one? From data to a table and figures.

snakemake --cores 4 all          the experiments that config.yaml names under `run`
snakemake --cores 4 cifar10      one experiment, by its name
snakemake --cores 4 overview     the experiments of `run` in one table
"""

from snakemake.utils import min_version

min_version("9.27")


configfile: "config.yaml"


report: "workflow/report/workflow.rst"


wildcard_constraints:
    data="[a-z][a-z0-9_]*",
    experiment="[a-z][a-z0-9_]*",
    model="[a-z][a-z0-9_]*",
    # A teacher is called so, or after the method whose own it is; a method is a student.
    teacher="([a-z][a-z0-9_]*_)?teacher",
    method="(?!([a-z][a-z0-9_]*_)?teacher/)[a-z][a-z0-9_]*",
    seed="[0-9]+",


include: "workflow/rules/experiments.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"


# Steps of seconds that a cluster's login node runs itself; the first may need the network.
localrules:
    prepare_data,
    import_teacher,
    compare_methods,
    render_table,
    render_claims,
    render_figures,
    render_overview,
    render_index,


rule all:
    default_target: True
    input:
        [EXPERIMENTS[name].artifacts() for name in CONFIG.run],


rule overview:
    """Compare the experiments of the run with each other."""
    input:
        rules.render_overview.output,


for name in EXPERIMENTS:

    rule:
        name:
            name
        input:
            EXPERIMENTS[name].artifacts(),
