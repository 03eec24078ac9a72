"""Several microscopes behind one address: each has its page and its resources below its name."""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from html import escape

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from latticewatch import __version__
from latticewatch.config import ServeSettings
from latticewatch.messages import Health, Microscope
from latticewatch.serve._access import Access, read_scope
from latticewatch.serve._app import guard
from latticewatch.serve._hub import Hub, reply
from latticewatch.serve._metrics import TEXT_FORMAT, MicroscopesCollector, exposition_of
from latticewatch.serve._probes import health_of, readiness_of

STYLE = """
:root{color-scheme:light dark}
body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem}
td{padding:.3rem 1.5rem .3rem 0;vertical-align:top}
"""
# How often the list of the microscopes is fetched anew, unless somebody is about to choose one [s].
REFRESH_S = 5
SCRIPT = f"""
setInterval(async () => {{
  const list = document.querySelector("table");
  const answer = await fetch("").catch(() => null);
  if (!answer?.ok || list.contains(document.activeElement)) return;
  list.replaceWith(new DOMParser().parseFromString(await answer.text(), "text/html").querySelector("table"));
}}, {1000 * REFRESH_S});
"""


def _hash_of(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


CONTENT_POLICY = (
    f"default-src 'none'; style-src {_hash_of(STYLE)}; script-src {_hash_of(SCRIPT)}; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True, slots=True)
class Hubs:
    """What the resources of all microscopes together need."""

    access: Access
    of: Mapping[str, Hub]


class Front:
    """The application of a service that watches several microscopes.

    ``/NAME/`` leads to the application of that microscope, which knows nothing of the others. What is left is about all
    of them: the list, the probes and the metrics.

    Parameters
    ----------
    apps : mapping of str to FastAPI
        From `create_app`, by the name of the microscope.
    settings : ServeSettings
        Who may do what; the same for all.
    """

    def __init__(self, apps: Mapping[str, FastAPI], settings: ServeSettings) -> None:
        self._apps: Mapping[str, ASGIApp] = apps

        @contextlib.asynccontextmanager
        async def lifespan(_: FastAPI) -> AsyncIterator[None]:
            async with contextlib.AsyncExitStack() as stack:
                for app in apps.values():
                    await stack.enter_async_context(app.router.lifespan_context(app))
                yield

        own = FastAPI(
            title="Latticewatch",
            version=__version__,
            description="Several microscopes, each with an interface of its own below its name.",
            docs_url=None,
            redoc_url=None,
            lifespan=lifespan,
        )
        own.state.hub = Hubs(Access(settings), {name: app.state.hub for name, app in apps.items()})
        own.include_router(router)
        own.include_router(closing)
        guard(own, settings)
        self.own = own

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app: ASGIApp = self.own
        if scope["type"] in ("http", "websocket"):
            name, slash, rest = scope["path"][1:].partition("/")
            if slash and name in self._apps:
                app = self._apps[name]
                raw: bytes | None = scope.get("raw_path")
                beyond = len(name) + 1
                scope = {**scope, "path": "/" + rest, "raw_path": raw and raw[beyond:]}
        await app(scope, receive, send)


router = APIRouter(tags=["microscopes"])
# Behind all others: what is nowhere.
closing = APIRouter(include_in_schema=False)


def _hubs(request: Request) -> Hubs:
    return request.app.state.hub


@router.get("/v1/microscopes", response_model=list[Microscope], dependencies=[Depends(read_scope)])
async def microscopes(request: Request) -> list[Microscope]:
    """The microscopes that are watched, each with its state and its account of frames."""
    return [
        Microscope(name=name, path=f"/{name}/", status=hub.engine.status())
        for name, hub in _hubs(request).of.items()
    ]


@router.get("/healthz", response_model=Health, responses={503: {"model": Health}})
async def healthz(request: Request) -> Response:
    """Alive: the threads of every microscope run."""
    status_code, health = health_of({name: hub.engine for name, hub in _hubs(request).of.items()})
    return reply(health, status_code)


@router.get("/readyz", response_model=Health, responses={503: {"model": Health}})
async def readyz(request: Request) -> Response:
    """Ready: every microscope is. Each has a probe of its own, too, below its name."""
    status_code, health = readiness_of({name: hub.engine for name, hub in _hubs(request).of.items()})
    return reply(health, status_code)


@router.get(
    "/metrics",
    response_class=Response,
    dependencies=[Depends(read_scope)],
    responses={200: {"content": {"text/plain": {}}}},
)
async def metrics(request: Request) -> Response:
    """Metrics in the text format of Prometheus, each with the label ``microscope``."""
    return Response(exposition_of(MicroscopesCollector(_hubs(request).of)), media_type=TEXT_FORMAT)


@closing.get("/")
async def page(request: Request) -> HTMLResponse:
    """The microscopes as links; with their states where nobody needs a key for those."""
    hubs = _hubs(request)
    rows = []
    for name, hub in hubs.of.items():
        state = ""
        if hubs.access.open:
            status = hub.engine.status()
            frames = f"{status.frames.received} frames received"
            said = [
                status.phase,
                status.detail,
                frames,
                status.degraded,
                *(note.text for note in status.notes),
            ]
            # why nothing comes is the detail, and a note as well
            state = "<br>".join(escape(one) for one in dict.fromkeys(said) if one)
        rows.append(f'<tr><td><a href="{escape(name)}/">{escape(name)}</a><td>{state}')
    text = (
        f'<!doctype html><html lang="en"><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width"><title>Latticewatch</title><style>{STYLE}</style>'
        f"<main><h1>Microscopes</h1><table>{''.join(rows)}</table></main>"
        f"<script>{SCRIPT}</script></html>"
    )
    return HTMLResponse(text, headers={"Content-Security-Policy": CONTENT_POLICY})


@closing.api_route("/{path:path}", methods=["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"])
async def nowhere(request: Request, path: str) -> Response:
    """Nothing is here that would be of one microscope alone."""
    names = list(_hubs(request).of)
    if path in names:
        return RedirectResponse(f"{path}/", 307)
    return JSONResponse(
        {
            "detail": f"several microscopes are watched here: put the name of one first, as in /{names[0]}/v1/status; "
            f"there are {', '.join(names)}"
        },
        404,
    )
