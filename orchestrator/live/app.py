"""The live page as a web application: its addresses, and the stream of updates. It is only read."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from analysis.web.theme import theme
from orchestrator.live.access import Guard
from orchestrator.live.pages import PAGES, Page, Pages
from orchestrator.live.watch import Watch

_STATIC = Path(__file__).parent / "static"
_STILL_HERE = 15.0
"""Seconds after which a stream without news says that it is alive, so that lost connections are noticed."""


def make_app(watch: Watch, token: str, hosts: set[str]) -> Starlette:
    """Return the application.

    Args:
        hosts: names under which it may be asked for, besides addresses in numbers.
    """
    pages = Pages(watch)
    routes = [
        *(Route(page.path, _shown(watch, pages, page)) for page in PAGES),
        *(Route(f"/events{page.path.rstrip('/')}", _updates(watch, pages, page)) for page in PAGES),
        Route("/static/theme.css", _style),
        Mount("/static", StaticFiles(directory=_STATIC)),
    ]
    guard = Middleware(Guard, token=token, hosts=hosts)
    return Starlette(
        routes=routes,
        middleware=[guard, Middleware(GZipMiddleware, minimum_size=1000)],
        exception_handlers={HTTPException: _refused(pages)},
    )


def _style(_: Request) -> Response:
    return Response(theme(), media_type="text/css")


def _refused(pages: Pages) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return HTMLResponse(pages.error(error.detail), error.status_code)

    return answer


def _shown(watch: Watch, pages: Pages, page: Page) -> Callable[[Request], object]:
    def answer(request: Request) -> Response:  # in a thread of its own
        watch.fresh()
        with watch.elsewhere():
            return HTMLResponse(pages.whole(page, request.path_params, _asked(request)))

    return answer


def _updates(watch: Watch, pages: Pages, page: Page) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        parameters, asked = request.path_params, _asked(request)
        await run_in_threadpool(pages.parts, page, parameters, asked)  # 404 before the stream begins
        return StreamingResponse(
            _stream(watch, pages, page, parameters, asked, _seen(request)),
            media_type="text/event-stream",
        )

    return answer


def _seen(request: Request) -> dict[str, str]:
    """Return the digests of the parts that a viewer has: at the last event before it connected again, or first."""
    text = request.headers.get("last-event-id") or request.query_params.get("seen", "")
    return dict(pair.split(":", 1) for pair in text.split(",") if ":" in pair)


def _asked(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.query_params.items() if name not in ("token", "seen")}


async def _stream(
    watch: Watch, pages: Pages, page: Page, parameters: Mapping[str, str], asked: dict[str, str], sent: dict[str, str]
) -> AsyncIterator[str]:
    """Yield events: the parts of the page that have changed, and when the root was read last.

    Args:
        sent: the digests of the parts that the viewer has.
    """
    with watch.viewer() as news:
        yield "retry: 3000\n\n"
        while not watch.closed:
            news.clear()
            try:
                parts = await run_in_threadpool(pages.parts, page, parameters, asked)
            except HTTPException:  # no longer there: whoever connects again is told
                return
            changed = {name: part.html for name, part in parts.items() if sent.get(name) != part.digest}
            sent = {name: part.digest for name, part in parts.items()}
            moment = watch.moment
            at = moment.contents.at.isoformat(timespec="seconds") if moment.contents else ""
            yield _event({"at": at, "trouble": moment.trouble, "parts": changed}, sent)
            while not news.is_set():
                try:
                    await asyncio.wait_for(news.wait(), _STILL_HERE)
                except TimeoutError:
                    yield ": still here\n\n"


def _event(value: Mapping[str, object], digests: Mapping[str, str]) -> str:
    """Return an event. Its id is sent by browsers that connect again."""
    return f"id: {','.join(map(':'.join, digests.items()))}\ndata: {json.dumps(value)}\n\n"
