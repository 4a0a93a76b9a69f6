"""Studies from before there was one rule, judged by it from what was kept of them.

Of each pair that is the difference of each seed, and the interval over images of their mean, but no
image's own result. So what seeds and images share isn't known, and counts twice: intervals are no
narrower than those of `mean_over_seeds_and_images`, and have the fewest degrees of freedom.
"""

import pandas as pd
from scipy import special

from distillation.reporting.comparison import VERDICTS
from distillation.reporting.intervals import Mean, holm, level_decided, mean_over_seeds
from distillation.reporting.judgement import judge
from distillation.reporting.results import label
from distillation.reporting.tables import table_lines

# What the rule gives that studies from before it lack.
NEW = "contrast"
# As they were published, in words.
BEFORE = {"not_distinguishable": "not distinguishable", "one_seed": "one seed"}
CONFIDENCE = 0.95


def judged_again(
    pairs: pd.DataFrame, seeds: pd.DataFrame, smallest_difference: float, labels: dict[str, str]
) -> list[str]:
    """Write each pair's difference with its interval, its verdict, and the one that was published.

    Args:
        pairs: comparison.csv of the study, in points of accuracy, with intervals of 95 %.
        seeds: its comparison_seeds.csv.
        smallest_difference: of interest, in points.
        labels: what models are called.
    """
    asked, means = pairs.to_dict("records"), []
    for pair in asked:
        own = (seeds["method"] == pair["method"]) & (seeds["reference"] == pair["reference"])
        alone = mean_over_seeds(seeds.loc[own, "difference"].to_numpy())
        width = pair["images_high"] - pair["images_low"]
        images = width / 2 / float(special.ndtri((1 + CONFIDENCE) / 2))
        means.append(Mean(alone.value, (alone.error**2 + images**2) ** 0.5, alone.freedom))
    adjusted = holm([level_decided(mean, smallest_difference) for mean in means])
    rows = []
    for pair, mean, p_value in zip(asked, means, adjusted, strict=True):
        said = [
            verdict
            for asks, verdict in VERDICTS.items()
            if judge(mean.estimate(CONFIDENCE), smallest_difference, asks) == "shown"
            and p_value <= 1 - CONFIDENCE
        ]
        value, low, high = mean.interval(CONFIDENCE)
        name = f"{label(pair['method'], labels)} - {label(pair['reference'], labels)}"
        found = (said or ["can't be said"])[0]
        before = BEFORE.get(pair["verdict"], pair["verdict"])
        rows.append([name, f"{value:.2f}", f"{low:.2f} to {high:.2f}", found, before])
    head = ["", "Difference", "95 %, seeds and images", "Verdict", "As published at first"]
    return [
        *table_lines(head, rows), "",
        f"Judged again by the rule of today, from these files: above and below mean by more than "
        f"{smallest_difference:g} points, for this teacher, corrected for {len(rows)} questions. "
        "No image's own result was kept, so intervals are wider than they need be, and the other "
        "contrasts aren't judged.", "",
    ]  # fmt: skip
