"""What jobs need of a machine: memory, time, GPUs, and which of them go together.

A scheduler is told these, and no result depends on them: they are resources, never params, so that
another number here reruns nothing. They come from the config: networks, batches, images, epochs.
"""

import math
import os
from functools import cache

# Images of the official data sets: training, test, pixels of a side (Fashion-MNIST's 28 and what
# may be padded to it), channels, classes.
OFFICIAL = {
    "cifar10": (50_000, 10_000, 32, 3, 10),
    "cifar100": (50_000, 10_000, 32, 3, 100),
    "fashion_mnist": (60_000, 10_000, 32, 3, 10),
}
# scikit-learn's handwritten digits.
DIGITS = 1797

# Megabytes of a step that loads torch (benchmark column max_rss of the tiny experiment on a CPU:
# train_student 802, evaluate 616) and of the two Snakemakes that run it in a job (about 150 each),
# with a third to spare.
TORCH_MEMORY = 1500
# Megabytes that CUDA's libraries and its context add in the computer's own memory.
CUDA_MEMORY = 3000
# Tensors as large as a group's output that a training keeps per block for the backward pass; peaks
# of the process with WRN-16-2, WRN-40-2 and WRN-16-4, float32, gave 6 to 10.
KEPT_TENSORS = 12
# Copies of the images, and of a table of logits, at the moment of reading or writing them.
COPIES = 4

# Floating-point operations per second: a third of what a textbook loop reaches on one thread of an
# AMD EPYC (README, "Speed": 113 images/s of WRN-16-2), and far less than any GPU that torch 2 runs
# on. Too low costs a wait in the queue, too high an attempt more.
SPEED = {"cpu": 25e9, "cuda": 1e12}
# Seconds of a step besides its operations: launching kernels, augmentation.
STEP_SECONDS = 0.03
# Seconds that the measures of an image's maps take, of one collapse, with what resamples take: thrice
# what they did on one thread of an AMD EPYC with 32 x 32 pixels.
MEASURE_SECONDS = 0.03
# Minutes to start two Snakemakes and torch from a cold shared disk, and to compile networks.
START_MINUTES = 10
# Of these, minutes before a training begins to count its time, and to save its state at the end.
SPARE_MINUTES = 4


@cache
def images(data):
    """Return numbers of training and test images, pixels of a side, channels, classes of a data set.

    An image folder that isn't there has no images: reading it will say so.
    """
    train, test, *rest = source_images(data)
    if held_out := config["data"][data].get("validation_fraction"):
        train, test = math.ceil(train * (1 - held_out)), math.ceil(train * held_out)
    return train, test, *rest


def source_images(data):
    """Return the same of the data set's source, before any are held out."""
    settings = config["data"][data]
    if settings["format"] in OFFICIAL:
        return OFFICIAL[settings["format"]]
    if settings["format"] == "digits":
        test = DIGITS * settings["test_fraction"]
        train = (DIGITS - test) * settings["train_placements"]
        return (
            math.ceil(train),
            math.ceil(test * settings["test_placements"]),
            settings["image_size"],
            1,
            10,
        )
    counts = {}
    for split in ("train", "test"):
        walk = os.walk(os.path.join(settings["source"], split), followlinks=True)
        counts[split] = [len(names) for _, _, names in walk]
    side, channels = settings["image_size"], settings["channels"]
    return (
        sum(counts["train"]),
        sum(counts["test"]),
        side,
        channels,
        max(1, len(counts["train"]) - 1),
    )


def block_values(network, side):
    """Return the values of one tensor of each block of a wide residual network, for one image.

    Group g of three has 16 k 2^g channels on (side / 2^g)^2 pixels: half the values of the one before.
    """
    blocks = (network["depth"] - 4) // 6
    return blocks * 16 * network["width"] * side**2 * (1 + 1 / 2 + 1 / 4)


def operations(network, side):
    """Return the floating-point operations of one image's forward pass.

    Two 3 x 3 convolutions a block, two operations a multiply-accumulate; each group has as many as
    the one before, four times the pairs of channels on a quarter of the pixels.
    """
    blocks = (network["depth"] - 4) // 6
    return 2 * 3 * blocks * 2 * 9 * (16 * network["width"]) ** 2 * side**2


@cache
def data_megabytes(data):
    """Return the megabytes of a data set's images."""
    train, test, side, channels, _ = images(data)
    return (train + test) * side**2 * channels / 1e6


@cache
def table_megabytes(experiment):
    """Return the megabytes of a table of the teacher's logits for all views, in float16."""
    training = training_of(experiment, "student")
    train, _, _, _, classes = images(EXPERIMENTS[experiment]["data"])
    views = (2 * training["padding"] + 1) ** 2 * (1 + training["flip"])
    return train * views * classes * 2 / 1e6


@cache
def torch_megabytes(experiment):
    """Return the megabytes of a step that loads torch and the data of an experiment."""
    settings = EXPERIMENTS[experiment]
    on_cuda = settings["device"] == "cuda"
    return TORCH_MEMORY + CUDA_MEMORY * on_cuda + COPIES * data_megabytes(settings["data"])


@cache
def training_megabytes(experiment, role, method):
    """Return the megabytes of a training; on a GPU its activations are in the GPU's memory."""
    settings = EXPERIMENTS[experiment]
    side = images(settings["data"])[2]
    kept = KEPT_TENSORS * block_values(settings[role], side)
    if role == "student":
        # The teacher keeps nothing for a backward pass.
        kept += 2 * block_values(settings["teacher"], side)
    activations = 4 * kept * training_of(experiment, role, method)["batch_size"] / 1e6
    on_cpu = settings["device"] == "cpu"
    table = method and from_table(experiment, method)
    tables = COPIES * table_megabytes(experiment) if table else 0
    return torch_megabytes(experiment) + activations * on_cpu + tables


@cache
def evaluation_megabytes(experiment):
    """Return the megabytes of a step that runs a trained network on images."""
    settings = EXPERIMENTS[experiment]
    side = images(settings["data"])[2]
    values = 4 * max(block_values(settings[role], side) for role in ("teacher", "student"))
    activations = 4 * values * settings["evaluation"]["batch_size"] / 1e6
    return torch_megabytes(experiment) + activations * (settings["device"] == "cpu")


def minutes(experiment, total, steps):
    """Return the minutes of a job with so many floating-point operations and steps."""
    settings = EXPERIMENTS[experiment]
    threads = settings["threads"] if settings["device"] == "cpu" else 1
    seconds = total / SPEED[settings["device"]] / threads + steps * STEP_SECONDS
    return START_MINUTES + math.ceil(seconds / 60)


@cache
def training_minutes(experiment, role, method):
    """Return the minutes of a whole training; the backward pass costs twice the forward pass."""
    settings = EXPERIMENTS[experiment]
    training = training_of(experiment, role, method)
    train, test, side, _, _ = images(settings["data"])
    own = operations(settings[role], side)
    taught = method and learns_from_teacher(experiment, method)
    teacher_runs = taught and not from_table(experiment, method)
    others = operations(settings["teacher"], side) if teacher_runs else 0
    epoch = train * (3 * own + others) + test * own
    steps = math.ceil(train / training["batch_size"]) + math.ceil(test / training["batch_size"])
    return minutes(experiment, training["epochs"] * epoch, training["epochs"] * steps)


@cache
def targets_minutes(experiment):
    """Return the minutes of the teacher's passes over all views of the training images."""
    settings = EXPERIMENTS[experiment]
    training = training_of(experiment, "student")
    train, _, side, _, _ = images(settings["data"])
    passes = train * (2 * training["padding"] + 1) ** 2 * (1 + training["flip"])
    # The script's batch.
    return minutes(experiment, passes * operations(settings["teacher"], side), passes / 128)


@cache
def evaluation_minutes(experiment):
    """Return the minutes of a trained network's passes over the test split."""
    settings = EXPERIMENTS[experiment]
    _, test, side, _, _ = images(settings["data"])
    most = max(operations(settings[role], side) for role in ("teacher", "student"))
    return minutes(experiment, test * most, test / settings["evaluation"]["batch_size"])


@cache
def measurement_minutes(experiment):
    """Return the minutes of measuring attention: passes of trained, untrained network and teacher."""
    settings = EXPERIMENTS[experiment]
    asked = settings["attention_metrics"]
    _, test, side, _, _ = images(settings["data"])
    most = max(operations(settings[role], side) for role in ("teacher", "student"))
    # Each map's order of the cells and four controls, deleted and inserted, in both networks.
    orders = 3 * len(asked["collapses"]) + 4
    perturbed = asked["faithfulness_images"] * 4 * asked["steps"] * orders
    passes = 3 * test + 2 * asked["noise_images"] + perturbed
    maps = math.ceil(test * len(asked["collapses"]) * MEASURE_SECONDS / 60)
    return maps + minutes(experiment, passes * most, passes / asked["batch_size"])


def whose(wildcards):
    """Return the experiment, which of its two networks a training is of, and its method or None."""
    method = wildcards.get("method")
    return wildcards.experiment, "student" if method else "teacher", method


def training_memory(wildcards, attempt):
    """Return the megabytes of a training, more with each attempt."""
    return attempt * math.ceil(training_megabytes(*whose(wildcards)))


def training_runtime(wildcards):
    """Return the minutes of a training, the same for each attempt: it goes on where it stopped."""
    return training_minutes(*whose(wildcards))


def time_limit(wildcards, resources):
    """Return the flag that tells a training when the scheduler will end it; none on this machine.

    A function of the resources is no param that Snakemake compares.
    """
    if not workflow.remote_exec:
        return []
    return flags({"time_limit": max(0, resources.runtime - SPARE_MINUTES)})


def targets_memory(wildcards, attempt):
    """Return the megabytes of tabulating a teacher, more with each attempt."""
    memory = evaluation_megabytes(wildcards.experiment)
    return attempt * math.ceil(memory + COPIES * table_megabytes(wildcards.experiment))


def targets_runtime(wildcards, attempt):
    """Return the minutes of tabulating a teacher, more with each attempt: it starts anew."""
    return attempt * targets_minutes(wildcards.experiment)


def evaluation_memory(wildcards, attempt):
    """Return the megabytes of measuring a network, more with each attempt."""
    return attempt * math.ceil(evaluation_megabytes(wildcards.experiment))


def evaluation_runtime(wildcards, attempt):
    """Return the minutes of measuring a network, more with each attempt."""
    return attempt * evaluation_minutes(wildcards.experiment)


def measurement_runtime(wildcards, attempt):
    """Return the minutes of measuring attention, more with each attempt."""
    return attempt * measurement_minutes(wildcards.experiment)


def preparing_memory(wildcards, attempt):
    """Return the megabytes of preparing a data set, more with each attempt."""
    return attempt * math.ceil(1000 + COPIES * data_megabytes(wildcards.data))


def report_memory(wildcards, attempt):
    """Return the megabytes of a table or of figures, more with each attempt."""
    return attempt * 1000


def short_runtime(wildcards, attempt):
    """Return the minutes of a step that takes seconds, more with each attempt."""
    return attempt * START_MINUTES


def measure_group(wildcards):
    """Return the group of a model's short steps, where a profile says how many make one job.

    Those of the students need the teacher's, which therefore go ahead in a group of their own.
    Without `group-components` of that name each step is a job, as on one machine.
    """
    name = "measure_teacher" if wildcards.model == "teacher" else "measure"
    return name if name in workflow.group_settings.group_components else None
