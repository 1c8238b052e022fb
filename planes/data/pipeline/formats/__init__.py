"""One module a file format; each turns bytes into an `ExtractedText`.

A module has `MEDIA_TYPE` and `extract(content: bytes) -> ExtractedText`. It runs in a process that
may open no file, so that whatever it imports while it works must have been imported before.
"""

MODULES = {  # by media type; only those that a file needs are imported
    "application/pdf": "pdf",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/epub+zip": "epub",
    "application/json": "json",
    "application/x-ndjson": "json",
    "message/rfc822": "message",
    "text/csv": "delimited",
    "text/tab-separated-values": "delimited",
    "text/html": "html",
    "text/markdown": "markdown",
    "text/plain": "plain",
}
IN_ANY_ENCODING = {"plain", "markdown", "delimited", "json", "html", "message", "epub"}
WITH_HIDDEN_ENCODINGS = {"message", "epub"}  # parts are packed, so that the file's bytes tell none
IMPORTED_WHOLE = {  # what parsers import while they work
    "pdf": ("pypdf", "pypdfium2"),
    "xlsx": ("openpyxl",),
    "message": ("email",),
}
