"""Declarations: what they say of a mistake, how flags carry them, and that they need no torch."""

import json
import subprocess
import sys
from typing import Any, cast, get_args

import pytest
from pydantic import Field

from distillation.settings import plugins
from distillation.settings.arguments import (
    Parser,
    add_flags,
    add_plugin,
    flags,
    plugin_flags,
    taken,
)
from distillation.settings.base import Settings, SettingsError, checked
from distillation.settings.training import Engine, Protocol
from made import mistake
from shell import ENVIRONMENT, ROOT

SCRIPTS = ROOT / "workflow/scripts"
KINDS = get_args(plugins.Kind)
ALL = [(kind, name) for kind in KINDS for name in plugins.names(kind)]
# Settings without a default, by plug-in, and some that differ from theirs.
GIVEN: dict[str, dict[str, Any]] = {
    "torchvision": {"model": "resnet18", "stages": ["layer1", "layer2.1.add"]},
    "vgg": {"depth": 8},
    "wrn": {"depth": 10, "width": 2},
    "resnet": {"depth": 8},
    "kd": {"weight": 0.9, "temperature": 2.5, "schedule": "cosine"},
    "at": {"weight": 1e-7, "schedule": "linear"},
    "digits": {
        "image_size": 12, "digit_size": 8, "clutter_pieces": 0, "clutter_size": 4,
        "train_placements": 1, "test_placements": 1, "test_fraction": 0.25, "seed": 2**32 - 1,
    },
    "image_folder": {"source": "my images: 8", "image_size": 12, "channels": 1, "fit": "pad"},
    "cifar10": {"source": "12", "validation_fraction": 0.1, "validation_seed": 0},
}  # fmt: skip


class Inner(Settings):
    """A map within a map."""

    count: int = Field(2, ge=1, le=5, description="of things")


class Sample(Settings):
    """One field of each type."""

    size: float = Field(gt=0, lt=1, description="as a fraction")
    switch: bool = Field(True, description="whether")
    lengths: list[int] = Field([1, 2], min_length=1, description="of each")
    inner: Inner = Inner(count=2)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"size": 2}, "here.size: found 2; allowed: a number above 0 below 1 (as a fraction)"),
        ({"size": float("nan")}, "here.size: found nan; allowed: a number above 0 below 1"),
        ({"size": "1e-3"}, "here.size: found '1e-3' (YAML reads 1e-3 as text; write 1.0e-3); "),
        ({}, "here: lacks size; allowed: a number above 0 below 1 (as a fraction)"),
        ({"size": 0.5, "switch": 1}, "here.switch: found 1; allowed: true or false (whether)"),
        (
            {"size": 0.5, "lengths": [1, 1.5]},
            "here.lengths.1: found 1.5; allowed: a list of length from 1, each a whole number",
        ),
        ({"size": 0.5, "swich": 1}, "here: unknown key 'swich'; did you mean switch? allowed: "),
        ({"size": 0.5, "inner": {"cuont": 1}}, "here.inner: unknown key 'cuont'; did you mean"),
        ({"inner": {"count": 6}}, "here.inner.count: found 6; allowed: a whole number from 1 to 5"),
        (None, "here: found null; allowed: a map"),
    ],
)
def test_mistake_is_one_line(values: Any, said: str) -> None:
    """A line has the key, what was found, what is allowed and means, and what was likely meant."""
    with pytest.raises(SettingsError) as error:
        checked(Sample, values, "here")
    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


def test_whole_numbers_stay_whole() -> None:
    """8.0 and 8 are one number, written alike, whichever was given; null takes a plug-in out."""
    assert checked(Inner, {"count": 4.0}) == checked(Inner, {"count": 4})
    term = checked(plugins.declared("terms", "kd"), {"weight": 3.0, "temperature": 4})
    assert json.dumps(term.plain()) == json.dumps(term.plain() | {"weight": 3, "temperature": 4})
    assert plugins.chosen("terms", {"kd": None}, "method") == {}


@pytest.mark.parametrize(("kind", "name"), ALL)
def test_flags_carry_a_plugin(kind: plugins.Kind, name: str) -> None:
    """A plug-in's settings that are turned into flags and read again are equal."""
    given = {name: checked(plugins.declared(kind, name), GIVEN.get(name, {}))}
    parser = Parser("")
    add_plugin(parser, "--plugin", kind, several=True)
    assert parser.parse_args(plugin_flags("--plugin", given)).plugin == given


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (Protocol, {}),
        (Protocol, {"epochs": 8, "milestones": [], "flip": False, "momentum": 0, "rise": 1e-9}),
        (Engine, {"compile": "off", "precision": "bfloat16", "graph": True}),
    ],
)
def test_flags_carry_a_declaration(kind: type[Settings], values: dict[str, Any]) -> None:
    """A declaration that is turned into flags and read again is equal."""
    given = checked(kind, values)
    parser = Parser("")
    add_flags(parser, kind)
    assert taken(kind, parser.parse_args(flags(given.plain()))) == given


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["wrn", "depth"], "argument --network: wrn: found 'depth'; allowed: KEY=VALUE"),
        (["wrm"], "argument --network: networks: unknown key 'wrm'; did you mean wrn?"),
        (["resnet", "depth=8", "--network", "resnet", "depth=8"], "is given twice; allowed: once"),
        (["resnet", "depth=8", "--size", "nan"], "--size: found 'nan'; allowed: a number above"),
    ],
)
def test_mistake_in_flags(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    """A flag that can't be used is one line that names it, with status 1."""
    parser = Parser("")
    add_plugin(parser, "--network", "networks")
    add_flags(parser, Sample, "size")
    assert said in mistake(capsys, cast(Any, parser.parse_args), ["--network", *words])


def test_declarations_import_no_torch() -> None:
    """All settings are known, explained and made into flags without importing torch."""
    code = (
        "import sys; from distillation.settings import arguments, config, experiment, plugins\n"
        f"for kind, name in {ALL}: plugins.declared(kind, name)\n"
        "parser = arguments.Parser('text')\n"
        f"for kind in {KINDS}: arguments.add_plugin(parser, f'--{{kind}}', kind)\n"
        "parser.format_help()\n"
        "try: parser.parse_args(['--explain', 'terms'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'numpy', 'pandas', 'sklearn'} & sys.modules.keys()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=SCRIPTS, env=ENVIRONMENT, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in plugins.names("terms"):
        assert f"\n{name}: " in f"\n{done.stdout}"
