"""What steps run in: what is asked for is what runs, and each precision learns the same."""

import shutil
from functools import partial
from typing import Any

import pytest
import torch

from distillation.data.dataset import Dataset
from distillation.networks import Network
from distillation.settings.base import checked
from distillation.settings.training import Engine
from distillation.training import precision
from distillation.training.loop import fit
from distillation.training.precision import (
    OPERATIONS_PER_SECOND,
    Picked,
    bfloat16_ratio,
    convolutions,
    fastest,
    pick,
    steps_beyond,
    try_compiling,
)
from distillation.training.resume import Learner
from learners import (
    ALL,
    KD,
    OTHERS,
    PROTOCOL,
    assert_same_run,
    make_feed,
    make_step,
    network,
    never,
    teacher_network,
)

SHORT, LONG = 1e9, 1e16


def images() -> torch.Tensor:
    """Return a batch of noise."""
    return torch.randn(8, 1, 12, 12, generator=torch.Generator().manual_seed(0))


def picked_by(operations: float = SHORT, **asked: Any) -> tuple[Picked, str]:
    """Return what is picked, and why."""
    [picked] = pick(checked(Engine, asked), network(), images(), [operations])
    return picked


@pytest.mark.parametrize("asked", ["float32", "bfloat16"])
def test_what_is_asked_for_is_picked(monkeypatch: pytest.MonkeyPatch, asked: Any) -> None:
    """A precision and compiling that are named are taken, and nothing is measured."""
    monkeypatch.setattr(precision, "bfloat16_ratio", lambda *_: pytest.fail("measured"))
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/g++")
    assert picked_by(LONG, precision=asked, compile="off") == (Picked(asked), asked)
    assert picked_by(precision=asked, compile="on")[0] == Picked(asked, compiled=True)


@pytest.mark.parametrize(
    ("ratio", "expected"),
    [(0.6, "float32"), (1.2, "float32"), (1.8, "bfloat16"), (3.1, "bfloat16")],
)
def test_auto_takes_what_pays(monkeypatch: pytest.MonkeyPatch, ratio: float, expected: Any) -> None:
    """Auto takes bfloat16 where it is clearly faster, and says why."""
    monkeypatch.setattr(precision, "bfloat16_ratio", lambda *_: ratio)
    picked, why = picked_by(compile="off")
    assert picked == Picked(expected)
    assert f"{ratio} times as fast" in why


def test_a_stride_beyond_the_map(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, bfloat16 is left where a map is smaller than the stride that it meets.

    Gradients of the weights that see padding alone were memory that nobody had written there.
    """
    small = network()
    small.stem.stride = (16, 16)  # type: ignore[union-attr]  # of images of 12 x 12
    assert steps_beyond(small, images())
    assert not steps_beyond(network(), images())
    monkeypatch.setattr(precision, "bfloat16_ratio", lambda *_: 3.0)
    asked = {"compile": "off", "graph": "off"}
    [(picked, why)] = pick(checked(Engine, asked), small, images(), [SHORT])
    assert picked == Picked("float32")
    assert "smaller than the stride" in why
    with pytest.raises(ValueError, match="precision is bfloat16, but a map is smaller"):
        pick(checked(Engine, asked | {"precision": "bfloat16"}), small, images(), [SHORT])
    assert picked_by(compile="off")[0] == Picked("bfloat16")


def test_auto_compiles_what_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """Auto compiles what runs long enough for what it gains, where there is a compiler.

    The gain is measured once for all trainings of a network, and not for short ones.
    """
    seconds = LONG / OPERATIONS_PER_SECOND["cpu"]
    for speedup, cost, pays in ((1.1, 40, True), (1.1, seconds, False), (0.9, 40, False)):
        tried = []

        def trial(*asked: Any, found: tuple[float, float] = (speedup, cost)) -> tuple[float, float]:
            tried.append(asked)  # noqa: B023 used within this turn
            return found

        monkeypatch.setattr(precision, "try_compiling", trial)
        monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/g++")
        engine, runs = checked(Engine, {"precision": "float32"}), [SHORT, LONG, 2 * LONG]
        short, long, longer = pick(engine, network(), images(), runs)
        assert short == (Picked(), "float32 (short run)")
        assert long[0].compiled is pays
        assert longer[0].compiled is (speedup > 1 and cost < 2 * seconds / 11)
        assert long[1].endswith(f"(compiled in {cost:.0f} s, it is {speedup:.2f} times as fast)")
        assert len(tried) == 1
        assert not picked_by(SHORT, precision="float32")[0].compiled
    assert len(tried) == 1
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert picked_by(LONG, precision="float32") == (Picked(), "float32 (no compiler)")
    with pytest.raises(ValueError, match=r"no C\+\+ compiler"):
        picked_by(precision="float32", compile="on")
    with pytest.raises(ValueError, match="graph is on, but device is cpu; allowed: auto, off"):
        picked_by(precision="float32", compile="off", graph="on")


def test_a_slow_turn_decides_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of equally fast actions one that was held up once is as fast as the other."""
    now, turns = [0.0], {"first": 0, "second": 0}

    def act(name: str, held_up: int) -> None:
        turns[name] += 1
        now[0] += 10 if turns[name] == held_up else 1

    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
    actions = [partial(act, "first", 2), partial(act, "second", 0)]
    assert fastest(actions, torch.device("cpu"), False) == [1, 1]
    # Clearly slower: not every turn is waited for.
    turns["second"] = 0

    def wait() -> None:
        now[0] += 9

    assert fastest([wait, actions[1]], torch.device("cpu"), False) == [9, 1]
    assert turns["second"] < 1 + precision.TURNS


def test_what_compiling_gains_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is measured on copies: the network stays as it was, and isn't compiled.

    The compiler's own backend is left out: what it would be given runs as it is.
    """
    seen = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        seen.append(inputs)
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    model: Network = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    monkeypatch.setattr(precision, "fastest", lambda actions, *_: [len(actions), 1])
    speedup, seconds = try_compiling(Picked(), model, images())
    # The backend has seen the compiled one; it comes second.
    assert seen
    assert speedup == 2
    assert seconds > 0
    assert not any(module._compiled_call_impl for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


def test_ratio_is_measured_on_the_dearest_convolution() -> None:
    """It is a number that a processor can have, and leaves the network as it was."""
    model: Network = network().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    # The first of two equally dear ones of the first stage.
    dearest = max(convolutions(model, images()), key=lambda each: each.cost)
    assert dearest.shape == (8, 16, 12, 12)
    assert dearest.module.weight.shape == (16, 16, 3, 3)
    assert 0 < bfloat16_ratio(model, images()) < 100
    assert model.training
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("settings", [ALL, OTHERS])
def test_bfloat16_networks_and_float32_terms(digits: Any, settings: dict[str, Any]) -> None:
    """The networks run in bfloat16, to within its 8 bits; weights and terms stay in float32."""
    losses = {}
    for asked in (Picked(), Picked("bfloat16")):
        feed = make_feed(digits, teacher=teacher_network(), picked=asked)
        step = make_step(feed, settings)
        feed.begin(0, 1)
        step.begin(1)
        batch = feed.taught(feed(10))
        with asked.autocast(torch.device("cpu")):
            student = step.run_student(batch.images)
        expected = torch.bfloat16 if asked.precision == "bfloat16" else torch.float32
        for outputs in (student, batch.teacher):
            assert {each.dtype for each in (outputs.logits, *outputs.stages)} == {expected}
        assert not batch.teacher.logits.requires_grad
        total, values = step.objective(student, batch.teacher, batch.labels, step.weights)
        assert {each.dtype for each in (total, *values.values())} == {torch.float32}
        step.learn(batch)
        assert {each.dtype for each in step.student.parameters()} == {torch.float32}
        losses[asked.precision] = total.item()
    assert 0 < abs(losses["bfloat16"] / losses["float32"] - 1) < 0.02


def test_full_batches_alone_are_compiled(monkeypatch: pytest.MonkeyPatch, digits: Dataset) -> None:
    """Student and teacher compile for one size of batch; others run eagerly, with the same result.

    The compiler's own backend is left out: what it would be given runs as it is.
    """
    sizes = set()

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        sizes.update(len(each) for each in inputs if each.shape[1:] == images().shape[1:])
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    ended = []
    for picked in (Picked(), Picked(compiled=True)):
        feed = make_feed(digits, teacher=teacher_network(), picked=picked)
        learner = Learner(make_step(feed, KD), [].append, None, "")
        fit([learner], 0, never, never)
        ended.append((learner.step.student, learner.history))
    assert_same_run(*ended)
    assert sizes == {PROTOCOL.batch_size} < {*feed.sizes}
