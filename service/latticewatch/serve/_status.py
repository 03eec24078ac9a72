"""State of the stream, counts, and whether the service is alive and ready."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from starlette.concurrency import run_in_threadpool

from latticewatch.execute import counts_of
from latticewatch.messages import AccessInfo, Counts, Health, Status
from latticewatch.serve._access import Credentials, control_scope, read_scope
from latticewatch.serve._hub import TheHub, reply
from latticewatch.serve._probes import health_of, readiness_of

router = APIRouter(prefix="/v1", tags=["state"], dependencies=[Depends(read_scope)])
probes = APIRouter(tags=["probes"])


@router.get("/status", response_model=Status)
async def status(hub: TheHub) -> Response:
    """State of the stream; received = analysed + dropped + in flight, always."""
    return reply(hub.engine.status())


@router.get("/counts", response_model=Counts)
async def counts(hub: TheHub) -> Response:
    """Sites of the newest frame, by role and by class."""
    return reply(counts_of(hub.engine.state))


@router.get("/access", response_model=AccessInfo)
async def access(hub: TheHub, credentials: Credentials) -> Response:
    """What the key of this request may do; a page leaves out the controls that would be refused."""
    key = credentials.credentials if credentials else None
    return reply(AccessInfo(scopes=["read", "control"] if hub.access.allows(key, "control") else ["read"]))


@router.post("/model:relearn", status_code=202, response_model=Status, dependencies=[Depends(control_scope)])
async def relearn(hub: TheHub) -> Response:
    """Throw the classes away and learn again from the next frames."""
    await run_in_threadpool(hub.engine.relearn)
    return reply(hub.engine.status(), 202)


@probes.get("/healthz", response_model=Health, responses={503: {"model": Health}})
async def healthz(hub: TheHub) -> Response:
    """Alive: the threads that take and fold frames run."""
    status_code, health = health_of({"": hub.engine})
    return reply(health, status_code)


@probes.get("/readyz", response_model=Health, responses={503: {"model": Health}})
async def readyz(hub: TheHub) -> Response:
    """Ready: alive, learnt, frames are fresh and can be analysed, and events can be stored."""
    status_code, health = readiness_of({"": hub.engine})
    return reply(health, status_code)
