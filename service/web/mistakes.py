"""What is wrong with a body, told field by field: pydantic finds it, the descriptions of the fields say it.

The description of a field completes the sentence "must be …", in the answer to a mistake and wherever the API is
described.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from service.model import Problem
from service.web.body import kind_of
from service.web.refusals import MOST_PROBLEMS, not_a_name, shown

Form = TypeVar("Form", bound=BaseModel)

NO_FIELD = "is not a field"


def read(form: type[Form], body: Mapping[str, Any], required: Mapping[str, Any]) -> tuple[Form, list[Problem]]:
    """Return a body as a form, and what is wrong with it.

    A form with problems holds all fields that are right, so that the mistakes that only others see can be told in the
    same answer. `required` are values for the fields that a form cannot be without.
    """
    try:
        return form.model_validate(body), []
    except ValidationError as error:
        details = error.errors(include_url=False)
        wrong = {str(each["loc"][0]) for each in details}
        right = {name: value for name, value in body.items() if name not in wrong}
        described = _descriptions(form)
        return form.model_validate({**required, **right}), [
            _problem(each, described) for each in details[:MOST_PROBLEMS]
        ]


def top(path: str) -> str:
    """Return the field of the body that a problem's field belongs to: "references" of "references[0].url"."""
    return re.split(r"[.\[]", path, maxsplit=1)[0]


def _problem(error: ErrorDetails, described: Mapping[str, str]) -> Problem:
    path, kind = error["loc"], error["type"]
    field, pattern = _path(path), _pattern(path)
    if kind == "extra_forbidden":
        beside = re.compile(re.escape(_pattern(path[:-1])) + r"\.?(\w+)")
        names = [found[1] for name in described if (found := beside.fullmatch(name))]
        return Problem(field, not_a_name(str(path[-1]), names, "a field", listed=len(path) > 1))
    if kind == "value_error" and (text := str(error["ctx"]["error"])):
        return Problem(field, text)
    if kind == "missing":
        return Problem(field, f"is required, and must be {described[pattern]}")
    given = f"; {kind_of(error['input'])} was sent" if kind.endswith("_type") else ""
    return Problem(field, f"must be {described[pattern]}{given}")


@cache
def _descriptions(form: type[BaseModel]) -> Mapping[str, str]:
    """Return the descriptions of a form's fields and of the elements in them: of "references[]", "references[].url"."""
    return MappingProxyType(dict(_fields(form, "")))


def _fields(form: type[BaseModel], before: str) -> Iterator[tuple[str, str]]:
    for name, field in form.model_fields.items():
        yield f"{before}{name}", field.description or ""
        yield from _within(field.annotation, f"{before}{name}")


def _within(annotation: Any, path: str) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - whatever a field is annotated with
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from _fields(annotation, f"{path}.")
        return
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        yield from ((path, each.description) for each in inner[1:] if isinstance(each, FieldInfo) and each.description)
        yield from _within(inner[0], path)
    elif origin is list:
        yield from _within(inner[0], f"{path}[]")
    elif origin is not dict:
        for each in inner:
            yield from _within(each, path)


def _path(steps: Sequence[int | str]) -> str:
    """Write `("references", 0, "url")` as `references[0].url`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{shown(step)}" for step in steps).removeprefix(".")


def _pattern(steps: Sequence[int | str]) -> str:
    return re.sub(r"\[\d+\]", "[]", _path(steps))
