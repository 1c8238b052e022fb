"""The forms of uploads: which fields they have, and how the OpenAPI document shows them."""

from typing import Any

from planes.shared.errors import InvalidInput
from services.gateway.documents.labels import MAX_TAGS, Labels, metadata_of, tags_of
from services.gateway.documents.multipart import MultipartForm, Part

_MAX_FIELD_BYTES = 64 * 1024
_FILE = {"type": "string", "format": "binary"}
_LABELS = {
    "tags": {
        "type": "array",
        "maxItems": MAX_TAGS,
        "items": {"type": "string", "minLength": 1, "maxLength": 64},
    },
    "metadata": {
        "type": "string",
        "description": "A JSON object of at most 16 KiB.",
        "examples": ['{"department": "legal"}'],
    },
}


def _body(properties: dict[str, Any], *, required: str) -> dict[str, Any]:
    schema = {"type": "object", "required": [required], "properties": properties}
    content = {"multipart/form-data": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}}


UPLOAD_BODY = _body({"file": _FILE, **_LABELS}, required="file")
CONTENT_BODY = _body({"file": _FILE}, required="file")
BATCH_BODY = _body(
    {
        "files": {
            "type": "array",
            "minItems": 1,
            "items": _FILE,
            "description": "Files, or one ZIP archive that holds them. `file` is another name.",
        },
        **_LABELS,
    },
    required="files",
)


class UploadForm:
    """A form with files, and perhaps with labels before, between or after them."""

    def __init__(self, form: MultipartForm, *files: str, is_labelled: bool = True) -> None:
        """Store the form.

        Args:
            form: Where the parts come from.
            files: The fields that hold files.
            is_labelled: Whether the fields `tags` and `metadata` are known.
        """
        self._form = form
        self._files = files
        self._known = ("tags", "metadata") if is_labelled else ()
        self._fields: list[tuple[str, str]] = []

    async def next_file(self) -> str | None:
        """Return the name of the next file, perhaps empty; None after the last.

        Raises:
            BadRequest: The form is malformed or ends too early.
            InvalidInput: A field is unknown, or no text where it should be one.
        """
        while (part := await self._form.next_part()) is not None:
            if part.name in self._files:
                if part.filename is None:
                    raise InvalidInput(f"The field `{part.name}` holds no file.")
                return part.filename
            await self._keep(part)
        return None

    async def read(self) -> bytes:
        """Return the next piece of the file; empty at its end."""
        return await self._form.read()

    def labels(self) -> Labels:
        """Return what the form attaches to its files, once all of it was read.

        Raises:
            InvalidInput: It cannot be stored.
        """
        texts = [text for name, text in self._fields if name == "metadata"]
        if len(texts) > 1:
            raise InvalidInput("The form has several fields `metadata`.")
        tags = [text for name, text in self._fields if name == "tags"]
        return Labels(tags_of(tags), metadata_of("".join(texts)))

    async def _keep(self, part: Part) -> None:
        if part.name not in self._known:
            raise InvalidInput(f"Unknown form fields: {part.name[:100]}.")
        if part.filename is not None:
            raise InvalidInput(f"The field `{part.name}` is a text, and not a file.")
        if len(self._fields) > MAX_TAGS:
            raise InvalidInput(f"A document has at most {MAX_TAGS} tags.")
        text = bytearray()
        while piece := await self._form.read():
            text += piece
            if len(text) > _MAX_FIELD_BYTES:
                raise InvalidInput(f"The field `{part.name}` is too long.")
        try:
            self._fields.append((part.name, text.decode()))
        except UnicodeDecodeError as error:
            raise InvalidInput(f"The field `{part.name}` is not UTF-8.") from error
