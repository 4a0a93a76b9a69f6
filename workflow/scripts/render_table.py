r"""Put the results of one experiment into one table.

Inputs: metrics.json and history.csv of every trained model. Outputs: a CSV with a row per quantity
and mean, standard deviation (n - 1) and n for each model; the same as Markdown and as a page
(.html) for reading; a summary (.json: of each model the metrics that two versions are compared by,
in their units, mean and standard deviation over seeds); and the provenance of all that went into
the table (.json).

Example:
    python workflow/scripts/render_table.py --title "Cluttered digits" \
        --run teacher 0 t/metrics.json t/history.csv --run kd 0 kd/metrics.json kd/history.csv \
        --label kd KD --csv table.csv --markdown table.md --page table.html \
        --summary summary.json --provenance provenance.json
"""

import argparse
import json

from distillation.record.provenance import describe_step
from distillation.reporting.outputs import add_outputs, written
from distillation.reporting.pages import page
from distillation.reporting.quantities import build_table, format_table, summarise_models
from distillation.reporting.results import add_run_flags, read_results
from distillation.settings.arguments import Parser, run

# Packages whose version can change the table itself.
PACKAGES = ("numpy", "pandas")
OUTPUTS = {
    "csv": ".csv", "markdown": ".md", "page": ".html", "summary": ".json", "provenance": ".json",
}  # fmt: skip


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_run_flags(parser)
    add_outputs(parser, OUTPUTS)
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read the runs and write the table."""
    arguments = parse_args(argv)
    results = read_results(arguments)
    text = format_table(results)
    named = argparse.Namespace(
        title=results.title, labels=results.labels, own_training=results.own_training
    )
    provenance = {
        "table": describe_step(named, PACKAGES),
        "runs": [
            {
                "model": one.model,
                "role": "student" if one.model in results.students else "teacher",
                "seed": one.seed,
                "training": one.training,
                "evaluation": one.evaluation,
            }
            for one in results.runs
        ],
    }
    with written(arguments, OUTPUTS) as files:
        build_table(results).to_csv(files["csv"], index=False)
        files["markdown"].write_text(text)
        files["page"].write_text(page(results.title, text))
        files["summary"].write_text(json.dumps(summarise_models(results), indent=2) + "\n")
        files["provenance"].write_text(json.dumps(provenance, indent=2) + "\n")
    print(text, flush=True)


if __name__ == "__main__":
    run(main)
