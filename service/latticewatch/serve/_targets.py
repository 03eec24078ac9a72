"""``/v1/targets`` and ``/v1/annotations``: what to look at next, and what became of it."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Query, Response

from latticewatch.errors import LatticewatchError
from latticewatch.messages import (
    Annotation,
    AnnotationRequest,
    Kind,
    Lease,
    Policy,
    TargetRequest,
    Targets,
)
from latticewatch.serve._access import control_scope, read_scope
from latticewatch.serve._hub import Hub, TheHub, reply
from latticewatch.serve._policies import candidates
from latticewatch.serve._target_book import TakenError

router = APIRouter(prefix="/v1", tags=["targets"], dependencies=[Depends(read_scope)])

TAKEN: dict[int | str, dict] = {
    409: {"description": "The key was used for another request, or somebody else has the target."},
    503: {"description": "The log cannot be written: nothing was given out or written down."},
}


@router.get("/targets", response_model=Targets)
def targets(
    hub: TheHub,
    policy: Annotated[Policy, Query()] = "most-confident",
    limit: Annotated[int, Query(ge=1, le=1000)] = 20,
    classes: Annotated[list[str] | None, Query(max_length=64)] = None,
    kinds: Annotated[list[Kind] | None, Query(max_length=8)] = None,
    min_confidence: Annotated[float, Query(ge=0, le=1)] = 0.0,
    out_of_view: Annotated[bool, Query()] = False,
) -> Response:
    """What a program could look at next, best first: advice, nothing is leased."""
    state = hub.engine.state
    named = tuple(name for name in classes or () if name and len(name) <= 128 and name.isprintable())
    asked = TargetRequest(
        policy=policy,
        holder="-",
        classes=named,
        kinds=tuple(kinds or ()),
        min_confidence=min_confidence,
        out_of_view=out_of_view,
    )
    free, leased, visited = hub.targets.sort(
        candidates(state, asked, hub.engine.log.stream) if named or not classes else [], asked.apart_nm
    )
    status = hub.engine.status(state)
    return reply(
        Targets(
            policy=policy,
            n=len(free),
            targets=free[:limit],
            leased=leased,
            visited=visited,
            phase=status.phase,
            last_frame_age_s=status.last_frame_age_s,
        )
    )


@router.post("/targets:next", response_model=Lease, responses=TAKEN, dependencies=[Depends(control_scope)])
def next_target(hub: TheHub, asked: TargetRequest) -> Response:
    """Lease the defect that a policy ranks first, among those that nobody has and nobody visited.

    No two holders get the same. A lease ends with its time or with an annotation; `key` makes it safe to ask again.
    """
    state, stream = hub.engine.state, hub.engine.log.stream
    return _written(hub, lambda: hub.targets.lease(asked, lambda: candidates(state, asked, stream)))


@router.post(
    "/annotations", response_model=Annotation, responses=TAKEN, dependencies=[Depends(control_scope)]
)
def annotate(hub: TheHub, asked: AnnotationRequest) -> Response:
    """Say what became of a target; it is in the log when this is answered."""
    return _written(hub, lambda: hub.targets.annotate(asked))


def _written(hub: Hub, write) -> Response:
    try:
        answer = write()
    except TakenError as error:
        raise HTTPException(409, str(error)) from error
    except LatticewatchError as error:
        raise HTTPException(503, f"the log cannot be written: {error}") from error
    # Who follows the log hears of it at once.
    hub.news.notify()
    return reply(answer)
