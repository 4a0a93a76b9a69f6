"""What the command lines share: parser, flags of declarations, the error boundary."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from distillation.settings import plugins
from distillation.settings.base import (
    S,
    Settings,
    SettingsError,
    allowed,
    bare_types,
    checked,
    unknown_key,
)


class Parser(argparse.ArgumentParser):
    """A parser that shows the module's docstring as help and exits with 1 on a user's mistake."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            description=description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Print one line on stderr and exit with status 1."""
        self.exit(1, f"{self.prog}: error: {message}\n")


def add_flags(parser: argparse.ArgumentParser, kind: type[Settings], *names: str) -> None:
    """Add a flag for each field of a declaration, or for those named.

    Fields without a default are required; a list takes several values, a switch has --no-.
    """
    for name in names or kind.model_fields:
        field = kind.model_fields[name]
        options: dict[str, Any] = {"help": help_text(field), "required": field.is_required()}
        if not field.is_required():
            options["default"] = field.get_default(call_default_factory=True)
        types = bare_types(field.annotation)
        if bool in types:
            options["action"] = argparse.BooleanOptionalAction
        elif any(get_origin(each) is list for each in types):
            # Of a list, each element is read by itself and the whole is checked by `taken`.
            options |= {"nargs": "*", "type": scalar}
        else:
            options["type"] = partial(read_field, field)
        parser.add_argument(f"--{name.replace('_', '-')}", **options)


def help_text(field: FieldInfo) -> str:
    """Return what `--help` says of a field: what it may hold, and its default."""
    default = "" if field.is_required() else shown(field.get_default(call_default_factory=True))
    end = f"; default: {default}" if default else ""
    return f"{allowed(field)}{end}".replace("%", "%%")


def shown(value: Any) -> str:
    """Return a value as it is written on a command line."""
    return value if isinstance(value, str) else json.dumps(value)


def scalar(text: str) -> Any:
    """Return the number, truth value or null that a text is, else the text itself."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def read_scalar(field: FieldInfo, text: str) -> Any:
    """Return the value that a text is for a field: what may be text is no number."""
    types, value = bare_types(field.annotation), scalar(text)
    return text if types == [str] or (str in types and value is not None) else value


def read_field(field: FieldInfo, text: str) -> Any:
    """Return the value of a field from a command line.

    Raises:
        argparse.ArgumentTypeError: the field doesn't allow it.
    """
    value, config = read_scalar(field, text), ConfigDict(strict=True, allow_inf_nan=False)
    try:
        return TypeAdapter(field.rebuild_annotation(), config=config).validate_python(value)
    except ValidationError:
        raise argparse.ArgumentTypeError(f"found {text!r}; allowed: {allowed(field)}") from None


def taken(kind: type[S], arguments: argparse.Namespace) -> S:
    """Build a declaration from the arguments that have the names of its fields.

    Raises:
        SettingsError: they don't fit together.
    """
    return checked(kind, {name: getattr(arguments, name) for name in kind.model_fields})


def add_plugin(
    parser: argparse.ArgumentParser,
    flag: str,
    kind: plugins.Kind,
    several: bool = False,
    **options: Any,
) -> None:
    """Add a flag that names a plug-in and its settings: `--network wrn depth=16 width=2`.

    The arguments have a map of one name to its settings, or, where the flag may be given several
    times, of all names. `--explain` tells what settings a plug-in has.
    """
    what = f"one of {', '.join(plugins.names(kind))}, and its settings; --explain {kind} tells them"
    parser.add_argument(
        flag, nargs="+", metavar=("NAME", "KEY=VALUE"), help=what,
        action=ChoosePlugin, kind=kind, several=several, **options,
    )  # fmt: skip
    if "--explain" not in parser._option_string_actions:
        parser.add_argument(
            "--explain", choices=("terms", "networks", "formats", "metrics"), action=Explain,
            dest=argparse.SUPPRESS,
            help="print the settings of all plug-ins of a kind, and exit",
        )  # fmt: skip


class ChoosePlugin(argparse.Action):
    """Reads a plug-in and its settings into a map of its name to its declaration."""

    def __init__(self, *args: Any, kind: plugins.Kind, several: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.kind: plugins.Kind = kind
        self.several = several

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:
        """Check the name and each setting, and add them to the namespace."""
        before = getattr(namespace, self.dest) or {}
        if values[0] in before or (before and not self.several):
            once = f"once{' for each name' * self.several}"
            parser.error(f"argument {option}: is given twice; allowed: {once}")
        try:
            setattr(namespace, self.dest, before | dict([read_plugin(self.kind, values)]))
        except SettingsError as error:
            parser.error(f"argument {option}: {error}")


def read_plugin(kind: plugins.Kind, words: list[str]) -> tuple[str, Settings]:
    """Return the plug-in that words name, NAME KEY=VALUE ..., and its settings.

    Raises:
        SettingsError: there is none of that name, a word isn't KEY=VALUE, its key isn't known, or
            its value isn't allowed.
    """
    name, *pairs = words
    declared, values = plugins.declared(kind, name), {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise SettingsError(f"{name}: found {pair!r}; allowed: KEY=VALUE")
        if key not in declared.model_fields:
            raise SettingsError(unknown_key(name, key, declared.model_fields))
        values[key] = read_scalar(declared.model_fields[key], text)
    return name, checked(declared, values, name)


class Explain(argparse.Action):
    """Prints what settings the plug-ins of a kind have."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option: Any = None) -> None:  # noqa: ARG002
        """Print and exit."""
        for name in plugins.names(values):
            kind = plugins.declared(values, name)
            print(f"{name}: {(kind.__doc__ or '').strip().partition(chr(10))[0]}")
            for key, field in kind.model_fields.items():
                print(f"    {key}: {help_text(field)}")
        parser.exit()


def add_networks(parser: argparse.ArgumentParser, outputs: Mapping[str, str]) -> None:
    """Add --checkpoint of one or several networks, and flags of an output for each of them."""
    parser.add_argument(
        "--checkpoint", type=Path, nargs="+", required=True, help="the network, or several, .pt"
    )
    for name, what in outputs.items():
        words = f"output, {what}; one for each network"
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, help=words)


def check_counts(arguments: argparse.Namespace, count: int, *names: str) -> None:
    """Refuse flags that don't have as many files as there are networks.

    Raises:
        SettingsError: one has more or fewer.
    """
    for name in names:
        if (found := len(getattr(arguments, name))) != count:
            raise SettingsError(f"--{name}: found {found}; allowed: {count}, one for each network")


def flags(settings: dict[str, Any]) -> list[str]:
    """Turn a map of settings into a list of flags, named alike; None is left out.

    They are sorted, so that the order of keys in a config file or overlay changes nothing.
    """
    result = []
    for key, value in sorted(settings.items()):
        flag = f"--{key.replace('_', '-')}"
        if isinstance(value, bool):
            result.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, list):
            result += [flag, *map(str, value)]
        elif value is not None:
            result += [flag, str(value)]
    return result


def plugin_flags(flag: str, named: Mapping[str, Settings], in_order: bool = True) -> list[str]:
    """Turn plug-ins and their settings into flags as `add_plugin` reads them.

    They are sorted by name, unless their order is one of the choices.
    """
    items = sorted(named.items()) if in_order else named.items()
    return [word for item in items for word in (flag, *plugin_words(*item))]


def plugin_words(name: str, settings: Settings) -> list[str]:
    """Return the words that name a plug-in and its settings: NAME KEY=VALUE ..."""
    return [name, *(f"{key}={shown(value)}" for key, value in sorted(settings.plain().items()))]


def run(main: Callable[[], None]) -> None:
    """Run `main`; end a mistake or a stop with one line on stderr and status 1, no traceback."""
    script = sys.argv[0].rpartition("/")[2]
    try:
        main()
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"{script}: error: {' '.join(str(error).split())}")
    except KeyboardInterrupt as stop:
        sys.exit(f"{script}: stopped{f' {stop}' if str(stop) else ''}")
