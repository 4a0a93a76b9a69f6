"""Tables of a teacher's logits: what they hold is what the teacher says in each step."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from distillation.data.dataset import Dataset, count_views, epoch_generator, training_batches
from distillation.networks.wrn import WideResNet, initialise
from distillation.training.loop import Protocol, Weights, fit
from distillation.training.precision import PLAIN, Networks
from distillation.training.targets import read_targets
from tabulate_targets import tabulate

AUGMENTATIONS = [(0, False), (0, True), (1, False), (2, True)]
KD = Weights(alpha=0.9, temperature=4.0)
# float16 has 11 significant bits.
ROUNDING = 2**-11


def network(seed: int) -> WideResNet:
    """Return a small network in evaluation mode."""
    model = WideResNet(10, 1, 10, 1)
    initialise(model, "ones", torch.Generator().manual_seed(seed))
    return model.eval()


def write(path: Path, table: torch.Tensor, padding: int, flip: bool, sha256: str) -> None:
    """Write a table as tabulate_targets.py does."""
    provenance = json.dumps({"data_sha256": sha256, "teacher": {"seed": 3}})
    np.savez(path, logits=table.numpy(), padding=padding, flip=flip, provenance=provenance)


@pytest.mark.parametrize(("padding", "flip"), AUGMENTATIONS)
def test_table_is_what_the_teacher_says(digits: Dataset, padding: int, flip: bool) -> None:
    """In every step of an epoch the table has the teacher's own logits, rounded to float16."""
    teacher = network(1)
    table = tabulate(teacher, digits, padding, flip, 7, PLAIN)
    assert table.shape == (32, count_views(padding, flip), 10)
    online, tabled = Networks(network(0), teacher, PLAIN), Networks(network(0), table, PLAIN)
    for images, _, places, views in training_batches(
        digits, 10, padding, flip, epoch_generator(0, 1)
    ):
        said, read = (each.ask_teacher(images, places, views) for each in (online, tabled))
        assert said is not None
        assert read is not None
        torch.testing.assert_close(read[0].float(), said[0], rtol=ROUNDING, atol=ROUNDING)


def test_students_of_table_and_teacher_agree(digits: Dataset) -> None:
    """A student that learns from the table ends where one with the teacher beside it does."""
    protocol = Protocol(
        epochs=2, batch_size=10, schedule="cosine", learning_rate=0.05, milestones=[],
        learning_rate_decay=0.2, reset_momentum=False, rise=0.3, momentum=0.9, nesterov=False,
        weight_decay=5e-4, padding=1, flip=True, gamma_init="ones",
    )  # fmt: skip
    teacher = network(1)
    histories = []
    for source in (teacher, tabulate(teacher, digits, 1, True, 32, PLAIN)):
        student = network(0)
        histories.append(fit(student, digits, protocol, KD, source, 0, None, "", [].append))
    for one, two in zip(*histories, strict=True):
        for name in ("loss", "cross_entropy", "distillation"):
            assert one[name] == pytest.approx(two[name], rel=2e-3)


def test_attention_needs_the_teacher(digits: Dataset) -> None:
    """A table has no features, so attention transfer from one is refused."""
    table = torch.zeros(32, 1, 10)
    protocol = Protocol(1, 10, "cosine", 0.1, [], 0.2, False, 0.3, 0.9, False, 0, 0, False, "ones")
    with pytest.raises(ValueError, match="logits only"):
        fit(network(0), digits, protocol, Weights(beta=1.0), table, 0, None, "", [].append)


def test_table_is_read_for_its_own_views(digits: Dataset, tmp_path: Path) -> None:
    """A table of another augmentation, of other images or of another size is refused."""
    file = tmp_path / "targets.npz"
    write(file, torch.zeros(32, 18, 10).half(), 1, True, digits.sha256)
    assert read_targets(file, digits, 1, True).provenance["teacher"] == {"seed": 3}
    with pytest.raises(ValueError, match="padding 1 and flip True; expected 2 and True"):
        read_targets(file, digits, 2, True)
    with pytest.raises(ValueError, match="padding 1 and flip True; expected 1 and False"):
        read_targets(file, digits, 1, False)
    with pytest.raises(ValueError, match="other training images"):
        read_targets(file, replace(digits, sha256="other"), 1, True)
    np.savez(file, logits=np.zeros(3), padding=1, flip=True, provenance="{}")
    with pytest.raises(ValueError, match="not a table"):
        read_targets(file, digits, 1, True)
    np.savez(file, logits=np.zeros(3), padding=[1, 2], flip=True, provenance="text")
    with pytest.raises(ValueError, match="damaged"):
        read_targets(file, digits, 1, True)
    write(file, torch.zeros(32, 17, 10).half(), 1, True, digits.sha256)
    with pytest.raises(ValueError, match="expected \\(32, 18, 10\\)"):
        read_targets(file, digits, 1, True)
