"""Every failure that a caller may see, as one tree.

    PlatformError
    ├── InvalidInput            422  a field or a file that cannot be accepted
    │   └── ToolsUnsupported    422  tools of a caller need a language model, and none is configured
    ├── BadRequest              400  a request that cannot be read
    ├── Unauthenticated         401
    ├── QuotaExceeded           402  a used-up quota, until the period resets
    ├── Forbidden               403  the caller's role does not allow it
    ├── NotFound                404  absent, or another tenant's: the same answer
    ├── RequestTimeout          408  a request that does not arrive
    ├── Conflict                409
    ├── Gone                    410  it was there, and is kept no longer
    ├── ContentTooLarge         413
    ├── UnsupportedMediaType    415
    ├── TooManyRequests         429
    ├── Unavailable             503  a part does not answer; try again
    │   └── NoLanguageModel     503  the question needs a language model, and none is configured
    └── DocumentRejected        (data plane) a document that can never become searchable as it is

The gateway turns each into an RFC 9457 problem; anything outside the tree becomes an opaque 500.
"""

from collections.abc import Mapping

type_prefix = "urn:polyplane:problem:"


class PlatformError(Exception):
    """An expected failure whose `detail` is safe to show to the caller."""

    status = 500
    code = "internal"
    title = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        extensions: Mapping[str, object] | None = None,
        retry_after_s: int | None = None,
    ) -> None:
        """Store what the caller may see.

        Args:
            detail: One or two plain sentences: what is wrong and what to do.
            extensions: Further members of the problem document.
            retry_after_s: Seconds after which a repeat may succeed; becomes `Retry-After`.
        """
        super().__init__(detail)
        self.detail = detail
        self.extensions = dict(extensions or {})
        self.retry_after_s = retry_after_s
        self.headers: dict[str, str] = {}

    @property
    def type(self) -> str:
        """The problem type of RFC 9457, a stable URN."""
        return type_prefix + self.code


class BadRequest(PlatformError):
    """The request cannot be read."""

    status, code, title = 400, "bad-request", "Bad request"


class Unauthenticated(PlatformError):
    """No valid credentials."""

    status, code, title = 401, "unauthenticated", "Authentication required"


class QuotaExceeded(PlatformError):
    """A quota of the tenant's plan is used up."""

    status, code, title = 402, "quota-exceeded", "Quota exceeded"


class Forbidden(PlatformError):
    """The caller is known but not allowed to do this."""

    status, code, title = 403, "forbidden", "Forbidden"


class NotFound(PlatformError):
    """Absent, deleted, or another tenant's."""

    status, code, title = 404, "not-found", "Not found"


class RequestTimeout(PlatformError):
    """The client stopped sending in the middle of a request."""

    status, code, title = 408, "request-timeout", "Request timeout"


class Conflict(PlatformError):
    """The request contradicts the present state."""

    status, code, title = 409, "conflict", "Conflict"


class Gone(PlatformError):
    """It was there, and is kept no longer."""

    status, code, title = 410, "gone", "Gone"


class ContentTooLarge(PlatformError):
    """A body above its limit."""

    status, code, title = 413, "content-too-large", "Content too large"


class UnsupportedMediaType(PlatformError):
    """A file of a type that the platform cannot read."""

    status, code, title = 415, "unsupported-media-type", "Unsupported media type"


class InvalidInput(PlatformError):
    """A well-formed request with a value that cannot be accepted."""

    status, code, title = 422, "invalid-input", "Invalid input"


class ToolsUnsupported(InvalidInput):
    """Tools of the caller need a language model."""

    code, title = "tools-unsupported", "Tools not supported"

    def __init__(self) -> None:
        """Say which generators can."""
        super().__init__(
            "Tools need a language model, and this platform quotes documents without one "
            "(generator `extractive`). The generators `openai` and `qwen` call tools: set "
            "SERVING_OPENAI_BASE_URL to an OpenAI-compatible server, or run "
            "`polyplane models pull` and set SERVING_GENERATOR=qwen.",
            extensions={"param": "tools"},
        )


class TooManyRequests(PlatformError):
    """A rate limit."""

    status, code, title = 429, "rate-limited", "Too many requests"


class Unavailable(PlatformError):
    """A part of the platform does not answer in time."""

    status, code, title = 503, "unavailable", "Service unavailable"

    def __init__(
        self,
        detail: str,
        *,
        extensions: Mapping[str, object] | None = None,
        retry_after_s: int | None = 2,
    ) -> None:
        """As `PlatformError`, with a retry after two seconds unless told otherwise."""
        super().__init__(detail, extensions=extensions, retry_after_s=retry_after_s)


class NoLanguageModel(Unavailable):
    """Open chat needs a language model."""

    code, title = "no-language-model", "No language model"

    def __init__(self, detail: str) -> None:
        """Without a time to retry: a repeat meets the same until the operator configures one."""
        super().__init__(detail, retry_after_s=None)


class DocumentRejected(PlatformError):
    """A document that cannot become searchable; `code` and `detail` are kept with the document."""

    status, title = 422, "Document rejected"

    def __init__(self, code: str, detail: str, *, retryable: bool = False) -> None:
        """Store the reason.

        Args:
            code: Stable, kebab-case: `encrypted`, `corrupt`, `no-text`, `too-complex`, ...
            detail: What a person should know and do.
            retryable: Whether the same bytes may succeed later.
        """
        super().__init__(detail)
        self.code = code
        self.retryable = retryable
