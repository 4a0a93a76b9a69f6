"""Tables of a teacher's logits: what they hold is what the teacher says in each step."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from distillation.data.dataset import Dataset, count_views
from distillation.networks import Network
from distillation.settings.training import VIEWS, Protocol
from distillation.training.precision import Picked
from distillation.training.targets import read_targets
from learners import KD, changed, make_feed, teacher_network, train
from tabulate_targets import tabulate, tabulate_view

AUGMENTATIONS = [
    {"padding": padding, "crop_border": border, "flip": flip}
    for padding, border, flip in (
        (0, "reflect", False),
        (0, "zeros", True),
        (1, "reflect", False),
        (1, "zeros", True),
        (2, "reflect", True),
    )
]
# float16 has 11 significant bits.
ROUNDING = 2**-11


def table_of(teacher: Network, data: Dataset, protocol: Protocol) -> torch.Tensor:
    """Return the teacher's logits of all views."""

    def ask(view: int) -> torch.Tensor:
        padding, border = protocol.padding, protocol.crop_border
        return tabulate_view(teacher, data, padding, border, view, 7, Picked())

    return torch.from_numpy(tabulate(count_views(protocol.padding, protocol.flip), ask, None))


def write(path: Path, table: torch.Tensor, protocol: Protocol, sha256: str) -> None:
    """Write a table as tabulate_targets.py does."""
    provenance = json.dumps({"data_sha256": sha256, "teacher": {"seed": 3}})
    views = {name: getattr(protocol, name) for name in VIEWS}
    np.savez(path, logits=table.numpy(), provenance=provenance, **views)


@pytest.mark.parametrize("views", AUGMENTATIONS, ids=str)
def test_table_is_what_the_teacher_says(digits: Dataset, views: dict[str, Any]) -> None:
    """In every step of an epoch the table has the teacher's own logits, rounded to float16."""
    teacher, protocol = teacher_network(), changed(**views)
    table = table_of(teacher, digits, protocol)
    assert table.shape == (32, count_views(views["padding"], views["flip"]), 10)
    feeds = [make_feed(digits, protocol, each) for each in (teacher, table)]
    for feed in feeds:
        feed.begin(0, 1)
    for size in feeds[0].sizes:
        said, read = (feed.taught(feed(size)).teacher for feed in feeds)
        torch.testing.assert_close(read.logits.float(), said.logits, rtol=ROUNDING, atol=ROUNDING)
        assert read.stages == []
        for feed in feeds:
            feed.counter += 1


def test_students_of_table_and_teacher_agree(digits: Dataset) -> None:
    """A student that learns from the table ends where one with the teacher beside it does."""
    protocol, teacher = changed(epochs=2, milestones=[2], padding=1), teacher_network()
    one, two = (
        train(digits, KD, protocol, teacher=source)[1]
        for source in (teacher, table_of(teacher, digits, protocol))
    )
    for own, other in zip(one, two, strict=True):
        for name in ("loss", "cross_entropy", "kd"):
            assert own[name] == pytest.approx(other[name], rel=2e-3)


def test_views_that_are_kept_are_not_asked_for_again(tmp_path: Path) -> None:
    """A table that was stopped goes on with the first view that it lacks, to the same values."""
    views = torch.arange(12.0).half().reshape(3, 2, 2)
    asked: list[int] = []

    def ask(view: int) -> torch.Tensor:
        asked.append(view)
        if asked == [0, 1]:
            raise KeyboardInterrupt
        return views[view]

    with pytest.raises(KeyboardInterrupt):
        tabulate(3, ask, tmp_path)
    np.testing.assert_array_equal(tabulate(3, ask, tmp_path), views.transpose(0, 1))
    assert asked == [0, 1, 1, 2]


def test_table_is_read_for_its_own_views(digits: Dataset, tmp_path: Path) -> None:
    """A table of another augmentation, of other images or of another size is refused."""
    file, other = tmp_path / "targets.npz", replace(digits, sha256="other")

    own = changed(padding=1, crop_border="reflect", flip=True)

    def refused(message: str, data: Dataset = digits, **changes: Any) -> None:
        with pytest.raises(ValueError, match=message):
            read_targets(file, data, changed(own, **changes))

    write(file, torch.zeros(32, 18, 10).half(), own, digits.sha256)
    assert read_targets(file, digits, own)[1]["teacher"] == {"seed": 3}
    found = "padding 1, crop_border reflect, flip True; expected"
    refused(f"{found} padding 2, crop_border reflect, flip True", padding=2)
    refused(f"{found} padding 1, crop_border zeros, flip True", crop_border="zeros")
    refused(f"{found} padding 1, crop_border reflect, flip False", flip=False)
    refused("other training images", other)
    views: dict[str, Any] = {"padding": 1, "crop_border": "reflect", "flip": True}
    np.savez(file, logits=np.zeros(3), **views, provenance="{}")
    refused("not a table")
    views["padding"] = [1, 2]
    np.savez(file, logits=np.zeros(3), **views, provenance="text")
    refused("damaged")
    write(file, torch.zeros(32, 17, 10).half(), own, digits.sha256)
    refused(r"expected \(32, 18, 10\)")
