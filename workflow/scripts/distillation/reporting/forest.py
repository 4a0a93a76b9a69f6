"""All differences to the baseline of several experiments, drawn."""

import itertools
import math

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from distillation.reporting.overview import Cell
from distillation.reporting.results import PALETTE

# Of the figure, in inches: its width, a row, and what stands around the rows.
WIDTH, ROW, AROUND = 8, 0.32, 1.6


def draw_forest(cells: list[Cell], metric: str, unit: str) -> Figure:
    """Draw all differences to the baseline with their intervals, grouped by experiment."""
    drawn = [cell for cell in cells if not math.isnan(cell.difference)]
    colours = {
        name: PALETTE[place % len(PALETTE)]
        for place, name in enumerate(dict.fromkeys(cell.label for cell in cells))
    }
    rows: list[Cell | str] = []
    # Experiments may have one title and one pair.
    for _, group in itertools.groupby(drawn, key=lambda cell: cell.experiment):
        cells_of = [*group]
        rows += [cells_of[0].pair, *cells_of]
    figure, axes = plt.subplots(figsize=(WIDTH, AROUND + ROW * max(1, len(rows))))
    for place, cell in enumerate(rows):
        if isinstance(cell, str):
            continue
        colour, least = colours[cell.label], cell.smallest_difference
        axes.fill_betweenx([place - 0.5, place + 0.5], -least, least, color="0.92", linewidth=0)
        axes.plot((cell.low, cell.high), (place, place), color=colour, linewidth=2.4)
        axes.plot(cell.difference, place, "o", color=colour, markersize=7)
    axes.axvline(0, color="0.3", linewidth=1)
    # Names of pairs are long: they stand above their rows, over the plot, not beside it.
    across = axes.get_yaxis_transform()
    for place, row in enumerate(rows):
        if isinstance(row, str):
            axes.text(0.01, place, row, transform=across, va="center", weight="bold", size="small",
                      bbox={"facecolor": "white", "edgecolor": "none", "pad": 1})  # fmt: skip
    names = {place: row.label for place, row in enumerate(rows) if not isinstance(row, str)}
    axes.set_yticks([*names], [*names.values()])
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    step = "points" if unit == "%" else unit
    named = f"{metric[0].lower() + metric[1:]}, {step}".rstrip(", ")
    axes.set_xlabel(f"difference to the baseline in {named}")
    axes.set_title("Mean and interval over seeds and images; grey: of no interest")
    return figure
