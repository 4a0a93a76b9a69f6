"""Intervals hold the true difference, and judgements err, as often as they state: simulated."""

import json
import runpy

import numpy as np
import pytest

from shell import ROOT

BENCHMARK = runpy.run_path(str(ROOT / "benchmarks/coverage.py"))
# Standard errors of a simulated rate that chance may make of it.
CHANCE = 3


def most(rate: float, trials: int) -> float:
    """Return the highest percentage that chance makes of a rate."""
    return rate + CHANCE * (rate * (100 - rate) / trials) ** 0.5


@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("leaning", BENCHMARK["LEANINGS"])
def test_intervals_and_judgements(seeds: int, leaning: float) -> None:
    """Coverage is within 2 points of nominal and chance; what is said falsely is rare enough."""
    trials = 500
    generator = np.random.default_rng([seeds, round(10 * leaning)])
    cell = BENCHMARK["Cell"](seeds, 540, 0.4, 0.5, 0.1, leaning)
    found = BENCHMARK["simulate"](cell, trials, generator)
    for name, stated in BENCHMARK["NOMINAL"].items():
        if name.startswith("in "):
            chance = most(stated, 2 * trials) - stated
            assert stated - 2 - chance <= found[name] <= stated + 2 + chance, name
        elif not name.startswith("seeds alone"):
            assert found[name] <= most(stated, trials), name
    # A judgement that never says anything would pass the lines above.
    assert found["above at delta"] + found["not above at delta"] > 1


@pytest.mark.parametrize("effects", BENCHMARK["EFFECTS"].values(), ids=BENCHMARK["EFFECTS"])
def test_whole_experiments(effects: tuple[float, float, float]) -> None:
    """In at most 5 % of experiments of seven questions anything false is said."""
    found = BENCHMARK["false_in_any"](effects, 3, 400, 0)
    assert found <= most(5, 400)


def test_published_simulation() -> None:
    """The table in docs/benchmarks is what the promise says, and is written from its JSON file."""
    content = json.loads((ROOT / "docs/benchmarks/coverage.json").read_text())
    assert (ROOT / "docs/benchmarks/coverage.md").read_text() == BENCHMARK["written"](content)
    for cell in content["cells"]:
        if cell["seeds"] >= 3:
            assert abs(cell["in 95 %"] - 95) <= 2 + content["chance"], cell
            assert abs(cell["in 90 %"] - 90) <= 2 + 1.4 * content["chance"], cell
            for name, stated in content["nominal"].items():
                if " at " in name:
                    assert cell[name] <= most(stated, content["trials"]), (name, cell)
    assert max(content["families"].values()) <= 5 + content["chance"]
