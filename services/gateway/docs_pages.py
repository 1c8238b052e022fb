"""The documentation pages, from files of our own, under a policy that lets nothing else in."""

import base64
import hashlib
import re
from pathlib import Path

import fastapi_offline
from fastapi import FastAPI
from fastapi.openapi.docs import get_redoc_html, get_swagger_ui_html
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles

_FILES = "/static-offline-docs"
_FOLDER = Path(fastapi_offline.__file__).parent / "static"
_INLINE_SCRIPT = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; worker-src blob:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


def install(app: FastAPI) -> None:
    """Add `/docs` and `/redoc` with their files, and lead from `/` to the first."""
    app.mount(_FILES, StaticFiles(directory=_FOLDER), name="static-offline-docs")
    swagger = _Page(
        get_swagger_ui_html(
            openapi_url="/openapi.json",
            title=f"{app.title}: the API",
            swagger_js_url=f"{_FILES}/swagger-ui-bundle.js",
            swagger_css_url=f"{_FILES}/swagger-ui.css",
            swagger_favicon_url=f"{_FILES}/favicon.png",
        )
    )
    redoc = _Page(
        get_redoc_html(
            openapi_url="/openapi.json",
            title=f"{app.title}: the API",
            redoc_js_url=f"{_FILES}/redoc.standalone.js",
            redoc_favicon_url=f"{_FILES}/favicon.png",
            with_google_fonts=False,
        )
    )

    @app.get("/", include_in_schema=False)
    async def get_root() -> RedirectResponse:
        return RedirectResponse("/docs", 307)

    @app.get("/docs", include_in_schema=False)
    async def get_docs() -> HTMLResponse:
        return swagger.response()

    @app.get("/redoc", include_in_schema=False)
    async def get_redoc() -> HTMLResponse:
        return redoc.response()


class _Page:
    """A page that may run its own inline scripts, by their hashes (CSP level 3), and no others."""

    def __init__(self, made: HTMLResponse) -> None:
        hashes = (hashlib.sha256(script) for script in _INLINE_SCRIPT.findall(made.body))
        scripts = " ".join(f"'sha256-{base64.b64encode(x.digest()).decode()}'" for x in hashes)
        self._body = made.body
        self._headers = {
            "content-security-policy": _POLICY.format(scripts=scripts),
            "referrer-policy": "no-referrer",
        }

    def response(self) -> HTMLResponse:
        return HTMLResponse(self._body, headers=self._headers)
