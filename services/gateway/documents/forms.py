"""Reading a multipart upload, after its sender is known."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
from fastapi import Request
from pydantic import TypeAdapter, ValidationError
from starlette.datastructures import UploadFile

from planes.shared.errors import BadRequest, InvalidInput
from services.gateway.documents.service import Labels
from services.gateway.schemas import Tag

_BLOCK_BYTES = 1 << 20
_MAX_TAGS = 32
_MAX_METADATA_BYTES = 16 * 1024
_FIELDS = frozenset({"file", "tags", "metadata"})
_TAGS: TypeAdapter[list[str]] = TypeAdapter(list[Tag])

UPLOAD_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "tags": {
                            "type": "array",
                            "maxItems": _MAX_TAGS,
                            "items": {"type": "string", "minLength": 1, "maxLength": 64},
                        },
                        "metadata": {
                            "type": "string",
                            "description": "A JSON object of at most 16 KiB.",
                            "examples": ['{"department": "legal"}'],
                        },
                    },
                }
            }
        },
    }
}


@asynccontextmanager
async def read_upload(request: Request) -> AsyncIterator[tuple[UploadFile, Labels]]:
    """Yield the file of a form and what is attached to it.

    The form is parsed here and not by the framework, so that nobody without credentials can make
    the gateway receive a file.

    Raises:
        BadRequest: The body is no multipart form.
        InvalidInput: A field is missing, unknown or malformed.
    """
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise BadRequest("Send the file as multipart/form-data, in the field `file`.")
    async with request.form(max_files=1, max_fields=_MAX_TAGS + 1) as form:
        unknown = set(form) - _FIELDS
        if unknown:
            raise InvalidInput(f"Unknown form fields: {', '.join(sorted(unknown))}.")
        file = form.get("file")
        if not isinstance(file, UploadFile):
            raise InvalidInput("The form has no file in the field `file`.")
        yield file, Labels(_tags(form.getlist("tags")), _metadata(form.get("metadata")))


async def content_of(file: UploadFile, labels: Labels) -> dict[str, object]:
    """Return what makes two uploads the same request; boundaries differ between repeats."""
    digest = hashlib.sha256()
    while block := await file.read(_BLOCK_BYTES):
        digest.update(block)
    await file.seek(0)
    return {
        "sha256": digest.hexdigest(),
        "name": file.filename,
        "tags": labels.tags,
        "metadata": labels.metadata,
    }


def _tags(values: list[UploadFile | str]) -> list[str]:
    try:
        return sorted(set(_TAGS.validate_python([value for value in values if value])))
    except ValidationError as error:
        raise InvalidInput("Each tag is a text of 1 to 64 characters.") from error


def _metadata(value: UploadFile | str | None) -> dict[str, Any]:
    if not value:
        return {}
    if not isinstance(value, str) or len(value.encode()) > _MAX_METADATA_BYTES:
        raise InvalidInput("`metadata` is a JSON object of at most 16 KiB.")
    try:
        parsed = orjson.loads(value)
    except orjson.JSONDecodeError as error:
        raise InvalidInput("`metadata` is not JSON.") from error
    if not isinstance(parsed, dict) or "\\u0000" in value:
        raise InvalidInput("`metadata` is a JSON object without NUL characters.")
    try:
        orjson.dumps(parsed)
    except orjson.JSONEncodeError as error:
        raise InvalidInput("`metadata` is nested too deeply.") from error
    return parsed
