"""The application: every resource, behind one guard."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware

import latticewatch_dashboard
from latticewatch import __version__
from latticewatch.config import ServeSettings, Settings
from latticewatch.errors import UnknownClassError
from latticewatch.execute import Engine, EngineBusyError
from latticewatch.serve import (
    _classes,
    _docs,
    _events,
    _events_socket,
    _frames,
    _history,
    _live,
    _metrics,
    _model,
    _status,
    _targets,
    _tracks,
)
from latticewatch.serve._access import Access
from latticewatch.serve._guard import Guard
from latticewatch.serve._hub import Hub

RESOURCES = (
    _events,
    _events_socket,
    _live,
    _status,
    _tracks,
    _targets,
    _history,
    _frames,
    _classes,
    _model,
    _metrics,
    _docs,
)


def create_app(engine: Engine, settings: Settings) -> FastAPI:
    """The web application of an engine.

    Parameters
    ----------
    engine : Engine
        Started and stopped by the caller.
    settings : Settings
        Of these, ``serve`` says who may do what.

    Returns
    -------
    FastAPI
        With the dashboard at ``/``, the resources under ``/v1`` and their description at ``/docs``.

    Raises
    ------
    ConfigurationError
        An address that others can reach without a key.
    """
    hub = Hub(engine, settings.serve, Access(settings.serve))
    app = FastAPI(
        title="Latticewatch",
        version=__version__,
        description="Defects of an atomic lattice, live: states, and a log of events with a cursor.",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
    )
    app.state.hub = hub
    for module in RESOURCES:
        app.include_router(module.router)
    app.include_router(_status.probes)
    page = StaticFiles(directory=latticewatch_dashboard.static_path(), html=True)
    # Only the page: what is live would wait in the compressor.
    app.mount("/", GZipMiddleware(page, minimum_size=1000), name="dashboard")
    app.add_exception_handler(RequestValidationError, _explain)
    app.add_exception_handler(UnknownClassError, _answer(404))
    app.add_exception_handler(EngineBusyError, _answer(503))
    guard(app, settings.serve)
    return app


def guard(app: FastAPI, settings: ServeSettings) -> None:
    """Put the gate before an application, and let pages of the origins that are allowed read its answers.

    Parameters
    ----------
    app : FastAPI
        Before it has answered anything.
    settings : ServeSettings
        Who may do what.
    """
    if settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.allowed_origins,
            allow_methods=("GET", "POST", "PATCH", "PUT"),
            allow_headers=("Authorization", "Content-Type", "Last-Event-ID"),
        )
    app.add_middleware(Guard, settings=settings)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    hub: Hub = app.state.hub
    hub.news.bind(asyncio.get_running_loop())
    unsubscribe = hub.engine.subscribe(hub.news.notify)
    yield
    unsubscribe()


async def _explain(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
    """What is wrong with a request, without what was sent: NaN and lone surrogates are no JSON."""
    assert isinstance(error, RequestValidationError)
    detail = [
        {"type": one["type"], "loc": [_shown(part) for part in one["loc"]], "msg": _shown(one["msg"])}
        for one in error.errors()
    ]
    return JSONResponse({"detail": detail}, 422)


def _shown(part: object) -> object:
    return part if isinstance(part, int) else str(part).encode("utf-8", "replace").decode()


def _answer(status: int):
    async def answer(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001
        return JSONResponse({"detail": str(error)}, status)

    return answer
