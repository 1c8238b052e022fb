"""A model's server that says what the question asks for.

    python -m tests.servers.language_model PORT

It speaks OpenAI's chat completions. "Say 100 words, one every 50 ms" gets that; anything else three
words at once.
"""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODEL = "words"
_WANTED = re.compile(r"Say (\d+) words, one every (\d+) ms")


def question(words: int, pause_ms: int) -> str:
    """Return the question that is answered with so many words, so slowly."""
    return f"Say {words} words, one every {pause_ms} ms"


async def _models(_: Request) -> Response:
    return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model"}]})


async def _completions(request: Request) -> Response:
    asked = (await request.json())["messages"][-1]["content"]
    found = _WANTED.search(asked)
    words, pause_ms = (int(found[1]), int(found[2])) if found else (3, 0)
    return StreamingResponse(_chunks(words, pause_ms / 1000), media_type="text/event-stream")


async def _chunks(words: int, pause_s: float) -> AsyncIterator[str]:
    for number in range(words):
        await asyncio.sleep(pause_s)
        yield _event([{"index": 0, "delta": {"content": f"word{number} "}, "finish_reason": None}])
    yield _event([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    usage = {"prompt_tokens": 20, "completion_tokens": words, "total_tokens": 20 + words}
    yield _event([], usage)
    yield "data: [DONE]\n\n"


def _event(choices: list[dict[str, object]], usage: dict[str, int] | None = None) -> str:
    chunk = {"id": "1", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
    return f"data: {json.dumps({**chunk, 'choices': choices, 'usage': usage})}\n\n"


def main(port: int) -> None:
    """Serve on loopback."""
    routes = [
        Route("/v1/models", _models),
        Route("/v1/chat/completions", _completions, methods=["POST"]),
    ]
    uvicorn.run(Starlette(routes=routes), host="127.0.0.1", port=port, log_level="warning")


if __name__ == "__main__":
    main(int(sys.argv[1]))
