"""Requests and the meaning of their answers, without input or output: both clients share them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from latticewatch.errors import (
    CursorGoneError,
    ServiceError,
    ServiceUnreachableError,
    UnauthorizedError,
    UnknownClassError,
)
from latticewatch.messages import (
    Annotation,
    AnnotationRequest,
    ClassDetail,
    ClassPatch,
    ClassSummary,
    Counts,
    CursorGone,
    EmbeddingState,
    EventPage,
    FrameInfo,
    History,
    Kind,
    Lease,
    LoadedModel,
    ModelState,
    Policy,
    Role,
    Status,
    TargetRequest,
    Targets,
    Tracks,
)

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8765"
DEFAULT_TIMEOUT_S = 10.0
DEFAULT_RETRIES = 3
LONGEST_RETRY_AFTER_S = 60.0
MAX_TRACKS = 10_000
# A model may have to be compiled for before it can be tried.
MODEL_WAIT_S = 60.0
SITE_COLUMNS = (
    "frame", "track", "class_id", "class_name", "role", "confidence", "row_px", "col_px",
    "x_nm", "y_nm", "stage_x_nm", "stage_y_nm", "sigma_nm",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    content: bytes | None = None
    extra_wait_s: float = 0.0
    repeatable: bool = True

    def request(self, http: httpx.Client | httpx.AsyncClient, timeout_s: float) -> httpx.Request:
        """The request; a long-poll is given its wait on top of the timeout."""
        timeout = httpx.Timeout(timeout_s, read=timeout_s + self.extra_wait_s)
        return http.build_request(
            self.method,
            self.path,
            params=dict(self.params),
            json=self.body,
            content=self.content,
            timeout=timeout,
        )

    def result(self, response: httpx.Response) -> T:
        """The answer as a message, or the error that it means.

        Raises
        ------
        UnauthorizedError, UnknownClassError, CursorGoneError, ServiceError
        """
        if not response.is_success:
            raise error_of(response)
        try:
            return self.read(response.content)
        except ValidationError as error:
            raise ServiceError(
                f"{response.url}: an answer that this client cannot read; use the same version of "
                f"Latticewatch on both sides ({error.errors()[0]['msg']})"
            ) from error


def error_of(response: httpx.Response) -> ServiceError | UnknownClassError:
    """The error that an answer means."""
    status, detail = response.status_code, _detail(response)
    if status in (401, 403):
        return UnauthorizedError(detail)
    if status == 404 and "/classes/" in response.url.path:
        return UnknownClassError(detail)
    if status == 410:
        try:
            gone = CursorGone.model_validate_json(response.content)
        except ValidationError:
            return ServiceError(f"{response.url}: 410 without a reason")
        return CursorGoneError(gone.detail, gone.stream, gone.first_seq, gone.last_seq)
    if status == 429 or status >= 500:
        return ServiceUnreachableError(f"{response.url}: {status}: {detail}", _retry_after(response))
    return ServiceError(f"{response.url}: {status}: {detail}")


def _retry_after(response: httpx.Response) -> float:
    """Seconds after which to come again; a minute at most, whatever is said."""
    text = response.headers.get("Retry-After", "")
    return min(float(text), LONGEST_RETRY_AFTER_S) if text.isascii() and text.isdigit() else 0.0


def attempts(retries: int) -> Any:
    """Attempts at a call that may be made twice, while there is no answer or one that says to come again.

    The pauses between them grow, and differ between clients.
    """
    # Read at the first call: it looks for what it could report to, which takes longer than all the rest.
    import stamina

    def pause(error: Exception) -> bool | float:
        if not isinstance(error, ServiceUnreachableError):
            return False
        return error.retry_after_s or True

    return stamina.retry_context(
        on=pause, attempts=1 + retries, timeout=None, wait_initial=0.1, wait_max=5.0, wait_jitter=0.2
    )


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError):
        return response.reason_phrase
    return detail if isinstance(detail, str) else json.dumps(detail)[:500]


def unreachable(url: object, error: httpx.TransportError, timeout_s: float) -> ServiceUnreachableError:
    """What it means that there was no answer."""
    if isinstance(error, httpx.TimeoutException):
        return ServiceUnreachableError(f"{url}: no answer within {timeout_s:g} s; is the service busy?")
    return ServiceUnreachableError(
        f"{url}: {error or type(error).__name__}; is `latticewatch serve` running?"
    )


def headers_of(key: str | None) -> dict[str, str]:
    """Headers of every request."""
    return {"Authorization": f"Bearer {key}"} if key else {}


# The resources

_classes: TypeAdapter[list[ClassSummary]] = TypeAdapter(list[ClassSummary])


def status() -> Call[Status]:
    return Call("GET", "/v1/status", Status.model_validate_json)


def counts() -> Call[Counts]:
    return Call("GET", "/v1/counts", Counts.model_validate_json)


def classes() -> Call[list[ClassSummary]]:
    return Call("GET", "/v1/classes", _classes.validate_json)


def model() -> Call[ModelState]:
    return Call("GET", "/v1/model", ModelState.model_validate_json)


def saved_model() -> Call[bytes]:
    return Call("GET", "/v1/model/file", bytes, extra_wait_s=MODEL_WAIT_S)


def load_model(data: bytes) -> Call[LoadedModel]:
    return Call(
        "PUT",
        "/v1/model/file",
        LoadedModel.model_validate_json,
        content=data,
        extra_wait_s=MODEL_WAIT_S,
        repeatable=False,
    )


def embedding() -> Call[EmbeddingState]:
    return Call("GET", "/v1/embedding", EmbeddingState.model_validate_json)


def one_class(class_id: int) -> Call[ClassDetail]:
    return Call("GET", f"/v1/classes/{int(class_id)}", ClassDetail.model_validate_json)


def edit_class(class_id: int, **fields: Any) -> Call[ClassSummary]:
    body = ClassPatch(**fields).model_dump(exclude_none=True)
    return Call("PATCH", f"/v1/classes/{int(class_id)}", ClassSummary.model_validate_json, body=body)


def relearn() -> Call[Status]:
    return Call("POST", "/v1/model:relearn", Status.model_validate_json, repeatable=False)


def tracks(role: Role | Literal["all"], limit: int, out_of_view: bool) -> Call[Tracks]:
    params: dict[str, Any] = {"role": role, "limit": limit}
    if out_of_view:
        params["out_of_view"] = True
    return Call("GET", "/v1/tracks", Tracks.model_validate_json, params)


def targets(
    policy: Policy,
    limit: int,
    classes: Sequence[str],
    kinds: Sequence[Kind],
    min_confidence: float,
    out_of_view: bool,
) -> Call[Targets]:
    params: dict[str, Any] = {"policy": policy, "limit": limit, "min_confidence": min_confidence}
    if classes:
        params["classes"] = list(classes)
    if kinds:
        params["kinds"] = list(kinds)
    if out_of_view:
        params["out_of_view"] = True
    return Call("GET", "/v1/targets", Targets.model_validate_json, params)


def next_target(fields: Mapping[str, Any]) -> Call[Lease]:
    return Call("POST", "/v1/targets:next", Lease.model_validate_json, body=_asked(TargetRequest, fields))


def annotate(fields: Mapping[str, Any]) -> Call[Annotation]:
    return Call(
        "POST", "/v1/annotations", Annotation.model_validate_json, body=_asked(AnnotationRequest, fields)
    )


def _asked(model: type[BaseModel], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A body that may be sent again: it has a key, so that twice is once."""
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        return model(**{"key": uuid.uuid4().hex, **given}).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ServiceError(f"{where}: {first['msg']} (got {str(first['input'])[:100]!r})") from error


def columns_of(tracks: Tracks) -> dict[str, list[Any]]:
    """Tracks as columns of equal length."""
    rows = [
        {
            "frame": tracks.frame,
            "track": one.track,
            "class_id": one.class_id,
            "class_name": one.class_name,
            "role": one.role,
            "confidence": one.confidence,
            "row_px": one.px.row,
            "col_px": one.px.col,
            "x_nm": one.nm.x if one.nm else None,
            "y_nm": one.nm.y if one.nm else None,
            "stage_x_nm": one.stage_nm.x if one.stage_nm else None,
            "stage_y_nm": one.stage_nm.y if one.stage_nm else None,
            "sigma_nm": one.sigma_nm,
        }
        for one in tracks.tracks
    ]
    return {name: [row[name] for row in rows] for name in SITE_COLUMNS}


def history(points: int, since: float | None, class_id: int | None) -> Call[History]:
    params = {"points": points, "since": since, "class_id": class_id}
    given = {name: value for name, value in params.items() if value is not None}
    return Call("GET", "/v1/history", History.model_validate_json, given)


def latest_frame() -> Call[FrameInfo]:
    return Call("GET", "/v1/frames/latest", FrameInfo.model_validate_json)


def latest_png(overlay: bool, max_size: int) -> Call[bytes]:
    params = {"overlay": int(overlay), "max_size": max_size}
    return Call("GET", "/v1/frames/latest.png", bytes, params)


def event_page(params: Mapping[str, Any], wait_s: float) -> Call[EventPage]:
    given = {**params, "wait": wait_s}
    # Who follows events comes again by itself, for as long as it takes.
    return Call(
        "GET", "/v1/events", EventPage.model_validate_json, given, extra_wait_s=wait_s, repeatable=False
    )
