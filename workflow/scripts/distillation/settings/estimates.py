"""What jobs need of a machine: memory and time, one formula each, from the config.

A scheduler is told these, and no result depends on them: another number here reruns nothing.
"""

import math
from collections.abc import Collection, Iterable

from distillation.settings.base import FormatSettings
from distillation.settings.experiment import Experiment

# Megabytes of a step that loads torch (benchmark column max_rss of a tiny experiment on a CPU:
# train_student 802, evaluate 616) and of the two Snakemakes that run it in a job (about 150 each),
# with a third to spare.
TORCH_MEMORY = 1500
# Megabytes that CUDA's libraries and its context add in the computer's own memory.
CUDA_MEMORY = 3000
# Tensors as large as a convolution's output that a training keeps for the backward pass; peaks of
# the process with WRN-16-2, WRN-40-2 and WRN-16-4, float32, gave 3 to 5.
KEPT_TENSORS = 6
# Copies of the images, and of a table of logits, at the moment of reading or writing them.
COPIES = 4
# Floating-point operations per second: a third of what a textbook loop reaches on one thread of an
# AMD EPYC (docs/speed.md: 113 images/s of WRN-16-2), and far less than any GPU that torch 2 runs
# on. Too low costs a wait in the queue, too high an attempt more.
SPEED = {"cpu": 25e9, "cuda": 1e12}
# Seconds of a step besides its operations: launching kernels, augmentation.
STEP_SECONDS = 0.03
# Seconds that the measures of an image's maps take, of one collapse, with what resamples take:
# thrice what they did on one thread of an AMD EPYC with 32 x 32 pixels.
MEASURE_SECONDS = 0.03
# Minutes to start two Snakemakes and torch from a cold shared disk, and to compile networks.
START_MINUTES = 10
# Minutes in which a step starts on a machine at hand, and does what isn't estimated.
STARTED_MINUTES = 0.1
# Part of a run after which the time that is left is told.
TELLING = 0.2
# Of START_MINUTES, minutes before a training begins to count its time, and to save its state.
SPARE_MINUTES = 4


class Estimates:
    """Megabytes and minutes of the steps of an experiment, on the first attempt."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment, self.choices = experiment, experiment.choices
        self.sizes = experiment.sizes

    def cost(self, *models: str) -> dict[str, int]:
        """Return the cost of the dearest of some models for one image; 0 of an unknown network."""
        costs = [self.experiment.cost(model) for model in models]
        names = ("multiply_accumulates", "written")
        return {name: max((each.get(name, 0) for each in costs), default=0) for name in names}

    def minutes(self, multiply_accumulates: float, steps: float) -> int:
        """Return the minutes of a job with so many of them (two operations each) and steps."""
        device = self.choices.device
        threads = self.choices.threads if device == "cpu" else 1
        seconds = 2 * multiply_accumulates / SPEED[device] / threads + steps * STEP_SECONDS
        return START_MINUTES + math.ceil(seconds / 60)

    def megabytes(self, values: float = 0) -> int:
        """Return those of a step with torch, the data and so many values of float32 on a CPU."""
        sizes, on_gpu = self.sizes, self.experiment.on_gpu
        images = (sizes.train + sizes.test) * sizes.side**2 * sizes.channels / 1e6
        activations = 0 if on_gpu else 4 * values / 1e6
        return math.ceil(TORCH_MEMORY + CUDA_MEMORY * on_gpu + COPIES * images + activations)

    def teachers(self, model: str) -> list[str]:
        """Return the teachers that run in a model's training."""
        taught = self.experiment.taught(model)
        return [self.experiment.teacher_of(model)] if taught else []

    def views(self) -> int:
        """Return the number of views of all training images that a table holds."""
        return self.sizes.train * self.experiment.views(self.experiment.tabulated)

    def table_megabytes(self) -> int:
        """Return the megabytes that a table of logits in float16 takes."""
        return math.ceil(COPIES * self.views() * self.sizes.classes * 2 / 1e6)

    def training_megabytes(self, model: str) -> int:
        """Return the megabytes of a training; a teacher keeps nothing for a backward pass."""
        training = self.experiment.training(model)
        kept = KEPT_TENSORS * self.cost(model)["written"]
        kept += self.cost(*self.teachers(model))["written"]
        table = self.table_megabytes() * self.experiment.from_table(model)
        return self.megabytes(kept * training.batch_size) + table

    def training_minutes(self, model: str) -> int:
        """Return the minutes of a whole training; the backward pass costs twice the forward."""
        training, sizes = self.experiment.training(model), self.sizes
        own = self.cost(model)["multiply_accumulates"]
        table = self.experiment.from_table(model)
        others = 0 if table else self.cost(*self.teachers(model))["multiply_accumulates"]
        epoch = sizes.train * (3 * own + others) + sizes.test * own
        steps = math.ceil((sizes.train + sizes.test) / training.batch_size)
        return self.minutes(training.epochs * epoch, training.epochs * steps)

    def together_megabytes(self) -> int:
        """Return the megabytes of training students together: the data are there once."""
        each = [self.training_megabytes(model) for model in self.experiment.together]
        return sum(each) - (len(each) - 1) * self.megabytes()

    def together_minutes(self) -> int:
        """Return the minutes of training students together, as if one after the other."""
        return sum(self.training_minutes(model) for model in self.experiment.together)

    def targets_megabytes(self) -> int:
        """Return the megabytes of tabulating a teacher."""
        return self.megabytes() + self.table_megabytes()

    def targets_minutes(self, teacher: str) -> int:
        """Return the minutes of the teacher's passes over all views of the training images."""
        batch = self.experiment.shared.batch_size
        passes = self.views()
        return self.minutes(passes * self.cost(teacher)["multiply_accumulates"], passes / batch)

    def evaluation_megabytes(self, *models: str) -> int:
        """Return the megabytes of a step that runs trained networks on images."""
        return self.megabytes(
            4 * self.cost(*models)["written"] * self.choices.evaluation.batch_size
        )

    def evaluation_minutes(self, model: str) -> int:
        """Return the minutes of passes over test images, and training images if a metric asks."""
        asked = self.choices.evaluation
        images = self.sizes.test
        if any(type(metric).split == "train" for metric in self.experiment.metrics.values()):
            images += min(asked.training_images, self.sizes.train)
        batches = images / asked.batch_size
        return self.minutes(images * self.cost(model)["multiply_accumulates"], batches)

    def students_minutes(self) -> int:
        """Return the minutes of evaluating the students of a seed in one job."""
        return sum(self.evaluation_minutes(model) for model in self.experiment.measured_together)

    def measurement_minutes(self, seed: int) -> int:
        """Return the minutes of measuring the attention of all networks of a seed."""
        asked, test = self.choices.attention_metrics, self.sizes.test
        # For each fill, orders by the last maps and at random; for the first, three controls.
        orders = len(asked.fills) * (len(asked.collapses) + asked.random_orders) + 3
        # Deleted and inserted.
        perturbed = asked.faithfulness_images * 2 * asked.steps * orders
        passes = 3 * test + 2 * asked.noise_images + perturbed
        models = [model.name for model in self.experiment.measured(seed)]
        # Beside the trained ones, an untrained one of each.
        total = 2 * sum(self.cost(model)["multiply_accumulates"] for model in models)
        maps = 2 * len(models) * test * len(asked.collapses) * MEASURE_SECONDS / 60
        return math.ceil(maps) + self.minutes(passes * total, passes / asked.batch_size)


def plan_line(minutes: Collection[int], devices: Iterable[str]) -> str:
    """Return what a dry run says of planned jobs, whose minutes are estimated, and of its devices.

    The estimates are the limits that a scheduler is told.
    """
    speeds = " and ".join(f"{SPEED[device]:g} operations/s ({device})" for device in devices)
    hours = math.ceil(sum(minutes) / 60)
    return (
        f"planned: {len(minutes)} jobs, at most {hours:,} hours one after the other by the limits "
        f"that a scheduler is told, far more than most machines need: {START_MINUTES} minutes to "
        f"start, then {speeds}"
    )


def weight(limit: float) -> float:
    """Return the minutes that a job counts for in what is left, from its limit on one attempt.

    The time to start that a scheduler must allow is far more than what a machine at hand takes.
    """
    return max(limit - START_MINUTES, 0) + STARTED_MINUTES


def time_left(left: float, total: float, seconds: float) -> str:
    """Return what is said of the time that is left for the whole run; nothing at its beginning.

    Args:
        left: weight of the jobs that haven't ended.
        total: of all that this run has to do.
        seconds: since it began.
    """
    done = total - left
    if not left or done < TELLING * total:
        return ""
    minutes = seconds / 60 * left / done
    if minutes < 90:
        return f", about {max(1, round(minutes))} min left"
    return f", about {minutes / 60:.1f} h left"


def preparing_megabytes(data: FormatSettings) -> int:
    """Return the megabytes of preparing a data set, whose images are all read."""
    sizes = data.read_sizes()
    images = (sizes.train + sizes.test) * sizes.side**2 * sizes.channels / 1e6
    return math.ceil(1000 + COPIES * images)
