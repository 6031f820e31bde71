"""Parsing: from the bytes of a body to a JSON document, and from a document to checked values.

Belongs here: strict reading of JSON. Must not be here: the fields of a body (`models.py`).
"""

import json
from collections import Counter
from typing import Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from serving.errors import FieldProblem, RepeatedKey, RequestError, TooManyKeys, problems_of, refuse
from serving.http.models import REQUIRED

_MAX_KEYS: Final = 64
_MAX_OWN_FIELDS: Final = 1_024
_MAX_INTEGER_DIGITS: Final = 18

T = TypeVar("T")


def check_content_type(content_type: str | None, *, encoding: str | None) -> None:
    """RequestError (415) unless the content type is plain JSON in UTF-8."""
    kind, _, parameters = (content_type or "").lower().replace(" ", "").partition(";")
    utf8 = parameters.replace('"', "") in {"", "charset=utf-8"}
    if kind == "application/json" and utf8 and (encoding or "identity").lower() == "identity":
        return
    raise RequestError(
        status=415,
        code="unsupported_media_type",
        message="Only JSON is read here.",
        fields=[FieldProblem("content-type", "wrong_content_type")],
    )


def decode(body: bytes) -> object:
    """The JSON document of a body; objects with repeated or too many keys become markers that `validate` refuses."""
    try:
        return _DECODER.decode(body.decode())
    except (ValueError, RecursionError):
        # The decoder's own message would quote the body.
        raise RequestError(
            status=400,
            code="not_json",
            message="The body is not a JSON document.",
            fields=[FieldProblem("body", "not_json")],
        ) from None


def validate(adapter: TypeAdapter[T], document: object, *, root: str = "body", context: object = None) -> T:
    """The document as the adapter's type. RequestError (422) names the fields; `root` is the name of the whole.

    `context` is for the types of fields.
    """
    try:
        return adapter.validate_python(document, context=context)
    except ValidationError as error:
        problems = problems_of(error, required=REQUIRED, root=root)
    return refuse(problems)


def _object(pairs: list[tuple[str, object]]) -> object:
    result = dict(pairs)
    if len(result) == len(pairs) <= _MAX_KEYS:
        return result
    if len(pairs) > _MAX_KEYS:
        return TooManyKeys(result if len(result) == len(pairs) <= _MAX_OWN_FIELDS else None)
    counts = Counter(key for key, _ in pairs)
    return RepeatedKey(next(key for key, count in counts.items() if count > 1))


def _integer(digits: str) -> float:
    # Python reads no integer of many thousand digits; as a float such a number is merely out of range.
    return int(digits) if len(digits) <= _MAX_INTEGER_DIGITS else float(digits)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer)
