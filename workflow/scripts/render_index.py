r"""Make the page of an experiment: the answer in a few sentences, and all else folded below it.

Inputs: metrics.json and history.csv of every trained model, the description of the data, and what
render_table.py, compare_methods.py, render_claims.py and render_figures.py made, in one folder and
named as the workflow names it. Output: one .html file that needs no other, and no network. Verdicts
are those of comparison.csv and claims.md; nothing is judged here.

Example:
    python workflow/scripts/render_index.py --title "Cluttered digits" --results results/digits \
        --run teacher 0 t/metrics.json t/history.csv --run kd 0 kd/metrics.json kd/history.csv \
        --label kd KD --data-description results/data/digits.json \
        --command "snakemake --cores 4 digits" --index results/digits/index.html
"""

import argparse
from pathlib import Path

from distillation.record.files import replacing
from distillation.reporting import index_text
from distillation.reporting.claim_text import describe_data
from distillation.reporting.index_page import index, inner, picture
from distillation.reporting.results import add_run_flags, read_results
from distillation.reporting.trained import read_json, read_table
from distillation.settings.arguments import Parser, add_flags, run
from distillation.settings.reports import Comparison


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(__doc__)
    add_run_flags(parser)
    flag = parser.add_argument
    flag("--results", type=Path, required=True, help="folder of tables, claims and figures")
    flag("--data-description", type=Path, required=True, help=".json that prepare_data.py writes")
    flag("--remark", help="what stands beside the answer; default: nothing")
    add_flags(parser, Comparison, "confidence")
    flag("--command", required=True, help="that makes the results again, as it is typed")
    flag("--index", type=Path, required=True, help="output, .html")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    """Read what was made and put it on one page."""
    arguments = parse_args(argv)
    folder, results = arguments.results, read_results(arguments)
    findings, fidelity = (read_table(folder / name) for name in ("comparison.csv", "fidelity.csv"))
    data, _ = describe_data(arguments.data_description, results.title, None)
    answer = index_text.answer(findings, results.labels, data)
    if arguments.remark:
        answer += f"\n{arguments.remark}\n"

    for name in read_json(folder / "figures.json"):
        if not (folder / "figures" / name).is_file():
            raise FileNotFoundError(
                f"{folder / 'figures' / name}: no such file; `--forcerun render_figures` makes it"
            )

    def made(name: str) -> str:
        return inner((folder / name).read_text())

    def drawn(*starts: str) -> str:
        files = [file for start in starts for file in sorted(folder.glob(f"figures/{start}*.png"))]
        return "\n".join(picture(file, folder) for file in files)

    matched = index_text.agreement(fidelity, results, arguments.confidence)
    trained = f"{index_text.networks(results)}\n\n{matched}"
    sections = {
        "The table": f"{trained}\n\n{made('table.md')}\n{drawn('metrics', 'confusion')}",
        "The differences": f"{picture(folder / 'comparison.png', folder)}\n{made('comparison.md')}",
        "Curves": drawn("curves_"),
        # Other ways to make a map look alike, and are as large; they stay in the folder.
        "Attention maps": drawn("attention_mean_square"),
        # A claim may be refuted, so its sentence alone doesn't say what a figure shows.
        "Claims about attention": made("claims.md").replace("![", "![Measures for the claim: "),
        "Cost": index_text.cost(results),
        "How it was made": index_text.made(results, arguments.command),
    }
    with replacing(arguments.index) as file:
        file.write_text(index(results.title, answer, sections, folder))
    print(f"{answer}\n{arguments.index}", flush=True)


if __name__ == "__main__":
    run(main)
