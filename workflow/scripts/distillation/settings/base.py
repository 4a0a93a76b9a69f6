"""The base of all declarations: each setting's type, range, unit, default and help stand in one.

A declaration is a class of fields; config check, flags, `--help`, provenance and docs come from it.
"""

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
)

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

if TYPE_CHECKING:
    from distillation.stages import Pair

S = TypeVar("S", bound="Settings")

# What fits into 32 bits, as NumPy's generators take it.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
# Bounds of pydantic's fields, in words.
BOUNDS = {
    "ge": "from", "gt": "above", "le": "to", "lt": "below", "multiple_of": "in steps of",
    "min_length": "of length from", "max_length": "to",
}  # fmt: skip
NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


class SettingsError(ValueError):
    """A setting that can't be used: one line with key, what was found and what is allowed."""


class Settings(BaseModel):
    """A declaration: no unknown keys, no conversion between types, no NaN, no infinity."""

    model_config = ConfigDict(
        strict=True, frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True
    )

    def plain(self) -> dict[str, Any]:
        """Return all settings as maps, lists, numbers and text; 8.0 is written as 8."""
        return plain(self.model_dump())


class TermSettings(Settings):
    """What every term of the objective has; its own settings come beside these.

    Class variables: `label` for tables and figures; `needs`, what it reads of the teacher.
    """

    label: ClassVar[str]
    needs: ClassVar[Literal["nothing", "logits", "stages"]]

    weight: float = Field(1, ge=0, description="factor of the term in the total")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "constant", description="of the weight over the epochs: constant, or falling to 0"
    )
    warmup_epochs: int = Field(
        0, ge=0, description="first epochs, in which the weight rises evenly to where it belongs"
    )

    def teaches_attention(self) -> bool:
        """Return whether it makes attention maps of an image like the teacher's of that image."""
        return False

    def check_pair(self, pair: "Pair") -> None:
        """Refuse networks that can't serve the term; raise `ValueError`. All can, by default."""


class NetworkSettings(Settings):
    """What every family of networks has: a name for tables, as `WRN-40-2`."""

    @property
    def title(self) -> str:
        """The network's name in tables and figures."""
        raise NotImplementedError

    def identity(self) -> str:
        """Return a digest of the file that a training begins with; none if all is drawn."""
        return ""


class FormatSettings(Settings):
    """What every source of images has; its own settings come beside these.

    Class variables: `masks`, where the objects' masks of the test images come from.
    """

    masks: ClassVar[Literal["stored", "above_zero", "none"]] = "none"

    def identity(self) -> str:
        """Return what changes where the content of the source does, beside the settings."""
        return "checked when it is read"

    def check_source(self) -> None:
        """Raise FileNotFoundError if the source should be there before a run, and isn't."""

    def sizes(self) -> "Sizes":
        """Return counts and shape of the images, for estimates; an absent source has no images."""
        raise NotImplementedError

    def read_sizes(self) -> "Sizes":
        """Return the same of all images that are read, where some of them are left out."""
        return self.sizes()


class Sizes(Settings):
    """What estimates of time and memory need of a data set."""

    train: int
    test: int
    side: int
    channels: int
    classes: int


class MetricSettings(Settings):
    """What every metric has.

    Class variables: `label` and `unit` for tables; `decimals`; `higher_is_better`, or None where
    neither is; `needs_teacher`; `split`, of whose images it is; `reason` for the smallest
    difference of interest.
    """

    label: ClassVar[str]
    unit: ClassVar[str]
    decimals: ClassVar[int]
    higher_is_better: ClassVar[bool | None]
    needs_teacher: ClassVar[bool] = False
    split: ClassVar[Literal["test", "train"]] = "test"
    reason: ClassVar[str]

    smallest_difference: float = Field(
        gt=0, description="smallest difference of interest, in the metric's unit"
    )


def plain(value: Any) -> Any:
    """Return a value with 1.0 written as 1, which is the same number, at all depths."""
    if isinstance(value, Mapping):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return int(value)
    return value


def checked(kind: type[S], values: Any, where: str = "") -> S:
    """Build a declaration from a map.

    Args:
        kind: the declaration.
        values: the map, as YAML has it.
        where: the key of the map, for messages.

    Raises:
        SettingsError: the first setting that is unknown, missing, of another type or out of range.
    """
    try:
        return kind.model_validate(plain(values))
    except ValidationError as error:
        # What isn't there at all is told after what is wrong.
        details = sorted(error.errors(), key=lambda one: one["type"] == "missing")
        raise SettingsError(explained(kind, details[0], where)) from None


def check_part(kind: type[Settings], values: Any, where: str) -> None:
    """Check settings some of which may be missing, each by itself.

    Raises:
        SettingsError: one is unknown, of another type or out of range.
    """
    try:
        kind.model_validate(plain(values))
    except ValidationError as error:
        for one in error.errors():
            if one["type"] != "missing" and (one["loc"] or one["type"] != "value_error"):
                raise SettingsError(explained(kind, one, where)) from None


def explained(kind: type[Settings], error: Mapping[str, Any], where: str) -> str:
    """Return one line for an error of pydantic's: the key, what was found, what is allowed."""
    place, found = [str(part) for part in error["loc"]], error["input"]
    key = ".".join(filter(None, [where, *place])) or "settings"
    model, field = find(kind, place)
    if error["type"] in ("extra_forbidden", "missing"):
        parent, known = key.removesuffix(place[-1]).rstrip(".") or "settings", fields_of(model)
        if error["type"] == "missing":
            return f"{parent}: lacks {place[-1]}; allowed: {allowed(known[place[-1]])}"
        return unknown_key(parent, place[-1], known)
    if error["type"] == "value_error":
        return f"{key}: {error['ctx']['error']}"
    if not place:
        return f"{key}: found {written(found)}; allowed: a map"
    hint = ""
    if isinstance(found, str) and field and float in bare_types(field.annotation):
        hint = " (YAML reads 1e-3 as text; write 1.0e-3)"
    words = allowed(field) if field else error["msg"].lower()
    return f"{key}: found {written(found)}{hint}; allowed: {words}"


def fields_of(kind: type[Settings]) -> dict[str, FieldInfo]:
    """Return the fields of a declaration by the names that one writes."""
    return {field.alias or name: field for name, field in kind.model_fields.items()}


def unknown_key(where: str, key: str, known: Iterable[str]) -> str:
    """Return the line for a key that isn't known, with the one that was probably meant."""
    names = [*known]
    close = get_close_matches(key, names, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{where}: unknown key {key!r}; {hint}allowed: {', '.join(names) or 'none'}"


def written(value: Any) -> str:
    """Return a value as one would write it in YAML, the beginning of a long one."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def find(kind: type[Settings], place: list[str]) -> tuple[type[Settings], FieldInfo | None]:
    """Return the field at a place within a declaration, and the declaration that has it.

    Of a list's element or a union's branch it is the field itself; of what isn't there, none.
    """
    field, inner = None, kind
    for part in place:
        if inner is None or part not in fields_of(inner):
            return inner or kind, field
        kind, field = inner, fields_of(inner)[part]
        inner = declaration_of(field)
    return kind, field


def declaration_of(field: FieldInfo) -> type[Settings] | None:
    """Return the declaration that a field is of, if it is of one."""
    kinds = [kind for kind in bare_types(field.annotation) if isinstance(kind, type)]
    return next((kind for kind in kinds if issubclass(kind, Settings)), None)


def bare_types(annotation: Any) -> list[Any]:
    """Return the types that an annotation allows, without the union around them."""
    if get_origin(annotation) in (Union, UnionType):
        return [inner for each in get_args(annotation) for inner in bare_types(each)]
    return [annotation]


def allowed(field: FieldInfo) -> str:
    """Return in words what a field may hold: types, range, and what it means."""
    words = " or ".join(dict.fromkeys(map(kind_words, bare_types(field.annotation))))
    # A bound of a number, or of a length.
    bounds = [(BOUNDS[name], value) for bound in field.metadata for name in BOUNDS
              if (value := getattr(bound, name, None)) is not None]  # fmt: skip
    text = "".join(f" {word} {plain(value)}" for word, value in bounds)
    # The length of a list is no text's that is in it.
    kind, comma, each = words.partition(", each")
    words = f"{kind}{text}{comma}{each}"
    return f"{words} ({field.description})" if field.description else words


def kind_words(kind: Any) -> str:
    """Return a type in words."""
    if get_origin(kind) is Annotated:
        return allowed(FieldInfo.from_annotation(kind))
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if get_origin(kind) in (list, tuple):
        return f"a list, each {kind_words(get_args(kind)[0])}"
    return "null" if kind in (NoneType, None) else NAMES.get(kind, "a map")
