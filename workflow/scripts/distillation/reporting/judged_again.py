"""Studies from before there was one rule, judged by it from what was kept of them.

That is of each network its accuracy, and of each pair that was compared the interval over images of
its mean difference, but no image's own result. So what seeds and images share isn't known, and
counts twice. A contrast that wasn't compared is a sum of pairs that were: its error over images is
at most the sum of theirs, however they correlate. Intervals are no narrower than those of
`mean_over_seeds_and_images`, and have the fewest degrees of freedom.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import pandas as pd
from scipy import optimize, special

from distillation.reporting.claim_text import criteria_table
from distillation.reporting.claims import CLAIMS, OPEN, Judge, one_teacher
from distillation.reporting.comparison import Compared, compare_seeds, judge_means
from distillation.reporting.comparison_text import contrast_table, describe
from distillation.reporting.contrasts import contrast, questions
from distillation.reporting.intervals import Mean, mean_over_seeds
from distillation.reporting.judgement import together
from distillation.reporting.measurements import ALPHA, BEFORE, COLLAPSE, methods_of, samples
from distillation.reporting.metric import find_metric
from distillation.reporting.results import TEACHER, Results
from distillation.reporting.trained import Run
from distillation.settings.base import MetricSettings, checked
from distillation.settings.plugins import declared
from distillation.settings.reports import Comparison, SmallestDifferences

# What the rule gives that studies from before it lack.
NEW = "contrast"
# What they were compared by, in points, with intervals of 95 %.
METRIC = "top1_accuracy"
CONFIDENCE = 0.95
# The arguments that told a training its terms then; where the first, a weight, is 0, there is none.
TERMS = {
    "kd": ("alpha", "temperature", "kl_reduction"),
    "at": ("beta", "beta_schedule", "at_mode", "collapse"),
}
# The one claim all of whose measures are today's, and what measurements were called.
STILL_MEASURED = "border"
BEFORE_NORM = "before_norm"


def earlier_results(
    title: str, runs: Mapping[str, list[dict[str, Any]]], history: pd.DataFrame,
    labels: dict[str, str], held_out: bool,
) -> Results:  # fmt: skip
    """Return the runs of such a study as comparisons want them.

    Args:
        title: of the study.
        runs: provenance of its runs, by model.
        history: its history.csv; the accuracies of the last epoch are what was compared.
        labels: what each model is called.
        held_out: whether it was measured on held-out images.
    """
    kind = cast(type[MetricSettings], declared("metrics", METRIC))
    entry = {
        "label": kind.label, "unit": kind.unit, "decimals": kind.decimals,
        "smallest_difference": kind.model_fields["smallest_difference"].default,
        "higher_is_better": kind.higher_is_better,
    }  # fmt: skip
    accuracy = 100 * history.groupby(["model", "seed"])["test_accuracy"].last()
    found, usual, own = [], None, {}
    for model, group in runs.items():
        arguments = group[0]["training"]["arguments"]
        terms = {
            term: {name: arguments[name] for name in names}
            for term, names in TERMS.items()
            if arguments.get(names[0])
        }
        others = {*arguments} - {"teacher"}.union(*TERMS.values())
        if model != TEACHER:
            usual = usual or arguments
            if differing := [name for name in sorted(others) if arguments[name] != usual[name]]:
                own[model] = differing
        for one in group:
            training = one["training"] | {"arguments": arguments | {"term": terms}}
            value = float(accuracy.loc[model, one["seed"]])
            content = {
                "metrics": {METRIC: entry | {"value": value}}, "training_provenance": training,
                "held_out": held_out, "images": 0,
            }  # fmt: skip
            found.append(Run(model, one["seed"], content, pd.DataFrame()))
    return Results(title, found, labels, own_training=own)


def error_over_images(signs: Mapping[str, int], pairs: pd.DataFrame) -> float:
    """Return the most that the error over images of a contrast can be, in points.

    It is that of the sum of pairs, with weights, that is the contrast and errs least.

    Args:
        signs: of the models in the contrast.
        pairs: method, reference, and the interval over images of each pair that was compared.

    Raises:
        ValueError: no sum of the pairs is the contrast.
    """
    normal = float(special.ndtri((1 + CONFIDENCE) / 2))
    errors = (pairs["images_high"] - pairs["images_low"]).to_numpy() / 2 / normal
    ends = [pairs[name].to_numpy() for name in ("method", "reference")]
    models = np.unique(np.concatenate(ends))[:, None]
    made = (models == ends[0]).astype(int) - (models == ends[1])
    wanted = [signs.get(model, 0) for model in models[:, 0]]
    # Weights of the pairs and of the pairs turned round, none below 0.
    found = optimize.linprog(np.tile(errors, 2), A_eq=np.hstack([made, -made]), b_eq=wanted)
    if not found.success:
        raise ValueError(f"comparison.csv: no sum of pairs is the contrast of {', '.join(signs)}")
    return float(found.fun)


def judged_again(pairs: pd.DataFrame, results: Results) -> list[str]:
    """Write each contrast with its intervals and verdict, in a table and in words.

    Args:
        pairs: comparison.csv of the study.
        results: see `earlier_results`.
    """
    metric, settings = find_metric(results, METRIC), checked(Comparison, {})
    asked = questions(pairs[["method", "reference"]].to_numpy().tolist(), results)
    contrasts, means = [contrast(*each, results, METRIC, {}) for each in asked], []
    for each, (*_, signs) in zip(contrasts, asked, strict=True):
        alone = mean_over_seeds(each.by_seed)
        images = error_over_images(signs, pairs)
        means.append(Mean(alone.value, (alone.error**2 + images**2) ** 0.5, alone.freedom))
    findings = judge_means(contrasts, means, metric.smallest_difference, settings)
    table = pd.DataFrame()
    compared = Compared(results, metric, settings, findings, compare_seeds(contrasts), table)
    said = [describe(row, metric, settings, results.labels, len(findings)) for row in findings]
    more = (
        f" The last {len(asked) - len(pairs)} weren't compared then; they are sums of pairs that "
        "were, and their errors over images are taken to add up." * (len(asked) > len(pairs))
    )
    return [
        *contrast_table(compared, planned=False), "", *(f"- {sentence}." for sentence in said), "",
        f"Judged again by the rule of today, from what was kept of this study: above and below "
        f"mean by more than {metric.exactly(metric.smallest_difference)}, equivalent by less, "
        f"corrected for {len(asked)} questions. No image's own result was kept, so intervals are "
        f"wider than they need be.{more}", "",
    ]  # fmt: skip


def claim_again(table: pd.DataFrame, images: int, labels: Mapping[str, str]) -> list[str]:
    """Judge the claim whose measures are still those of today, at the level of all claims.

    Args:
        table: attention_metrics.csv of the study.
        images: how many were measured on.
        labels: what methods are called.
    """
    table = table.loc[table["metric"] == STILL_MEASURED].rename(columns={"group": "stage"})
    stages = table.groupby("model")["stage"].transform("max")
    table = table.assign(stages=stages, untrained=False)
    table["point"] = table["point"].replace({BEFORE_NORM: BEFORE})
    methods = methods_of(table, labels, [TEACHER])
    values = samples(table, BEFORE, COLLAPSE, {"": images})
    alpha = ALPHA / len(CLAIMS)
    judge = Judge(values, methods, [], checked(SmallestDifferences, {}), alpha)
    claimed = CLAIMS[STILL_MEASURED]
    criteria = [*map(judge.criterion, claimed.questions)]
    verdict = together(each.result for each in criteria)
    about = ", for this teacher" if one_teacher(values) and verdict != OPEN else ""
    return [
        f"One claim's measures are those of today, and it is judged again from "
        f"`attention_metrics.csv`, by the rule of today and at the level of {len(CLAIMS)} claims, "
        f"with {100 * (1 - alpha):.4g} % intervals of the differences. {claimed.sentence} "
        f"**{verdict.capitalize()}{about}.**",
        "", *criteria_table("criterion", criteria, methods),
    ]  # fmt: skip
