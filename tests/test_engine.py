"""The engine: what is asked for is what runs, and each precision learns the same."""

from dataclasses import replace

import pytest
import torch

from distillation.networks.wrn import WideResNet, initialise
from distillation.terms.losses import attention_transfer, knowledge_distillation
from distillation.training import precision as engine
from distillation.training.precision import PLAIN, Engine, Networks, bfloat16_ratio, pick_engine

CPU = torch.device("cpu")
SHORT, LONG = 1e9, 1e16
NUMBERS = torch.arange(8)


def network(seed: int) -> WideResNet:
    """Return a small network."""
    model = WideResNet(10, 1, 10, 1)
    initialise(model, "ones", torch.Generator().manual_seed(seed))
    return model


def images() -> torch.Tensor:
    """Return a batch of noise."""
    return torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_what_is_asked_for_is_picked(monkeypatch, precision):
    """A precision and compiling that are named are taken, and nothing is measured."""
    monkeypatch.setattr(engine, "bfloat16_ratio", lambda _: pytest.fail("measured"))
    monkeypatch.setattr(engine.shutil, "which", lambda _: "/usr/bin/g++")
    assert pick_engine(precision, "off", CPU, LONG) == (
        Engine(precision, False),
        f"{precision}, not compiled",
    )
    assert pick_engine(precision, "on", CPU, SHORT)[0] == Engine(precision, True)


@pytest.mark.parametrize(
    ("ratio", "precision"),
    [(0.6, "float32"), (1.2, "float32"), (1.8, "bfloat16"), (3.1, "bfloat16")],
)
def test_auto_takes_what_pays(monkeypatch, ratio, precision):
    """Auto takes bfloat16 where it is clearly faster, and says why."""
    monkeypatch.setattr(engine, "bfloat16_ratio", lambda _: ratio)
    picked, why = pick_engine("auto", "off", CPU, SHORT)
    assert picked == Engine(precision, False)
    assert f"{ratio} times as fast" in why


def test_auto_compiles_long_runs(monkeypatch):
    """Auto compiles what runs for hours, where there is a compiler."""
    monkeypatch.setattr(engine.shutil, "which", lambda _: "/usr/bin/g++")
    assert not pick_engine("float32", "auto", CPU, SHORT)[0].compiled
    assert pick_engine("float32", "auto", CPU, LONG)[0].compiled
    monkeypatch.setattr(engine.shutil, "which", lambda _: None)
    assert not pick_engine("float32", "auto", CPU, LONG)[0].compiled
    with pytest.raises(ValueError, match=r"no C\+\+ compiler"):
        pick_engine("float32", "on", CPU, LONG)


def test_ratio_is_measured():
    """The speed of bfloat16 against float32 is a number that a processor can have."""
    assert 0 < bfloat16_ratio(CPU) < 100


def test_bfloat16_networks_and_float32_losses():
    """The networks run in bfloat16, their weights and the losses stay in float32."""
    student = network(0)
    networks = Networks(student, network(1).eval(), replace(PLAIN, precision="bfloat16"))
    batch = images()
    taught = networks.ask_teacher(batch, NUMBERS, NUMBERS)
    assert taught is not None
    teacher_logits, teacher_features = taught
    logits, features = networks.ask_student(batch)
    for tensor in (logits, teacher_logits, *features, *teacher_features):
        assert tensor.dtype == torch.bfloat16
    assert not teacher_logits.requires_grad
    attention = attention_transfer(features, teacher_features)
    distillation = knowledge_distillation(logits, teacher_logits, 4)
    assert attention.dtype == distillation.dtype == torch.float32
    (attention.sum() + distillation).backward()
    assert {p.grad.dtype for p in student.parameters() if p.grad is not None} == {torch.float32}


def test_precisions_agree():
    """In bfloat16 the outputs are those of float32 to within its 8 bits."""
    exact = Networks(network(0).eval(), None, PLAIN).ask_student(images())
    rough = Networks(network(0).eval(), None, Engine("bfloat16", False)).ask_student(images())
    for one, two in zip((exact[0], *exact[1]), (rough[0], *rough[1]), strict=True):
        error = (one - two.float()).square().mean().sqrt() / one.square().mean().sqrt()
        assert 0 < error < 0.02


def test_no_teacher():
    """Without a teacher there is nobody to ask."""
    assert Networks(network(0), None, PLAIN).ask_teacher(images(), NUMBERS, NUMBERS) is None
