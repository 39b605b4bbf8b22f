"""Plain values into typed ones, with errors that name the exact field: ``inputs.extract.pins[0].digest``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import msgspec.inspect as shapes

from datalayer.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from datalayer.errors import DataLayerError

_Form = TypeVar("_Form")

_WORDS: dict[type, tuple[type | tuple[type, ...], str]] = {
    shapes.StrType: (str, "text"),
    shapes.BoolType: (bool, "true or false"),
    shapes.IntType: (int, "a whole number"),
    shapes.FloatType: ((int, float), "a number"),
}


def parse_json(data: bytes, what: str, error_type: type[DataLayerError]) -> Any:
    """Return what a JSON document spells, refusing an object that has one key twice.

    Args:
        data: The bytes.
        what: What the document is and where it lies, for errors.
        error_type: What to raise when the bytes are no JSON.

    Raises:
        ConfigError: An object has the same key twice; readers differ in which of the values they take.
    """

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in items:
            if key in found:
                raise ConfigError(f"{what}: {key!r} is given twice in one object; every alias and key stands once")
            found[key] = value
        return found

    try:
        return json.loads(data, object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise error_type(f"{what} is not valid JSON: {error}") from error


def convert(document: object, form: type[_Form], name: str, error_type: type[DataLayerError], *, strict: bool) -> _Form:
    """Return plain values as ``form``.

    Args:
        document: What a JSON or TOML document spells.
        form: A msgspec struct type.
        name: What the document is called in errors: fields are named from there.
        error_type: What to raise.
        strict: Whether an unknown key is an error; otherwise it is left out.

    Raises:
        DataLayerError: As ``error_type``: a value does not fit; the message begins with the field's path.
    """
    problem = _problem(document, shapes.type_info(form), name, strict=strict)
    if problem:
        raise error_type(problem)
    try:
        return msgspec.convert(document, form)
    except msgspec.ValidationError as error:
        raise error_type(f"{name}: {error}") from error


def _problem(value: object, shape: shapes.Type, path: str, *, strict: bool) -> str | None:
    check = _CHECKS.get(type(shape), _leaf_problem)
    return check(value, shape, path, strict=strict)


def _dict_problem(value: object, shape: shapes.DictType, path: str, *, strict: bool) -> str | None:
    if not isinstance(value, dict):
        return _mismatch(path, "an object", value)
    return _first(_problem(inner, shape.value_type, f"{path}.{key}", strict=strict) for key, inner in value.items())


def _list_problem(value: object, shape: shapes.ListType, path: str, *, strict: bool) -> str | None:
    if not isinstance(value, list):
        return _mismatch(path, "a list", value)
    return _first(_problem(inner, shape.item_type, f"{path}[{at}]", strict=strict) for at, inner in enumerate(value))


def _union_problem(value: object, shape: shapes.UnionType, path: str, *, strict: bool) -> str | None:
    others = [inner for inner in shape.types if not isinstance(inner, shapes.NoneType)]
    if value is None and len(others) < len(shape.types):
        return None
    # Of several forms msgspec itself says which ones there are.
    return _problem(value, others[0], path, strict=strict) if len(others) == 1 else None


def _literal_problem(value: object, shape: shapes.LiteralType, path: str, *, strict: bool) -> str | None:  # noqa: ARG001  # as the others
    known = " or ".join(repr(text) for text in shape.values)
    return None if value in shape.values else _mismatch(path, known, value)


def _object_problem(value: object, shape: shapes.StructType, path: str, *, strict: bool) -> str | None:
    if not isinstance(value, dict):
        return _mismatch(path, "an object", value)
    names = {field.encode_name: field for field in shape.fields}
    if strict:
        for key in value:
            if key not in names:
                return f"{path}.{key}: unknown key; the keys are {', '.join(names)}"
    for name, field in names.items():
        if name in value:
            if problem := _problem(value[name], field.type, f"{path}.{name}", strict=strict):
                return problem
        elif field.required:
            return f"{path}.{name}: is missing"
    return None


def _leaf_problem(value: object, shape: shapes.Type, path: str, *, strict: bool) -> str | None:  # noqa: ARG001  # as the others
    expected = _WORDS.get(type(shape))
    if expected is None:
        return None
    kinds, words = expected
    # In Python a bool is an int; in JSON it is not.
    if not isinstance(value, kinds) or (isinstance(value, bool) and not isinstance(shape, shapes.BoolType)):
        return _mismatch(path, words, value)
    return None


_CHECKS: dict[type, Callable[..., str | None]] = {
    shapes.StructType: _object_problem,
    shapes.DictType: _dict_problem,
    shapes.ListType: _list_problem,
    shapes.UnionType: _union_problem,
    shapes.LiteralType: _literal_problem,
}


def _mismatch(path: str, expected: str, value: object) -> str:
    shown = repr(value)
    return f"{path}: expected {expected}, got {shown if len(shown) <= 60 else f'{shown[:60]}…'}"


def _first(problems: Iterator[str | None]) -> str | None:
    return next((problem for problem in problems if problem), None)
