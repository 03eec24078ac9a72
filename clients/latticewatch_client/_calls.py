"""Requests and the meaning of their answers, without input or output: both clients share them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError

from latticewatch.errors import (
    CursorGoneError,
    ServiceError,
    ServiceUnreachableError,
    UnauthorizedError,
    UnknownClassError,
)
from latticewatch.messages import (
    ClassDetail,
    ClassPatch,
    ClassSummary,
    Counts,
    CursorGone,
    EmbeddingState,
    EventPage,
    FrameInfo,
    History,
    ModelState,
    Role,
    Status,
    Tracks,
)

T = TypeVar("T")

DEFAULT_URL = "http://127.0.0.1:8765"
DEFAULT_TIMEOUT_S = 10.0


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """One request, and how its answer is read."""

    method: str
    path: str
    read: Callable[[bytes], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    extra_wait_s: float = 0.0

    def request(self, http: httpx.Client | httpx.AsyncClient, timeout_s: float) -> httpx.Request:
        """The request; a long-poll is given its wait on top of the timeout."""
        timeout = httpx.Timeout(timeout_s, read=timeout_s + self.extra_wait_s)
        return http.build_request(
            self.method, self.path, params=dict(self.params), json=self.body, timeout=timeout
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
    if status in (502, 503, 504):
        return ServiceUnreachableError(f"{response.url}: {status}: {detail}")
    return ServiceError(f"{response.url}: {status}: {detail}")


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


def embedding() -> Call[EmbeddingState]:
    return Call("GET", "/v1/embedding", EmbeddingState.model_validate_json)


def one_class(class_id: int) -> Call[ClassDetail]:
    return Call("GET", f"/v1/classes/{int(class_id)}", ClassDetail.model_validate_json)


def edit_class(class_id: int, **fields: Any) -> Call[ClassSummary]:
    body = ClassPatch(**fields).model_dump(exclude_none=True)
    return Call("PATCH", f"/v1/classes/{int(class_id)}", ClassSummary.model_validate_json, body=body)


def relearn() -> Call[Status]:
    return Call("POST", "/v1/model:relearn", Status.model_validate_json)


def tracks(role: Role, limit: int) -> Call[Tracks]:
    return Call("GET", "/v1/tracks", Tracks.model_validate_json, {"role": role, "limit": limit})


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
    return Call(
        "GET", "/v1/events", EventPage.model_validate_json, {**params, "wait": wait_s}, extra_wait_s=wait_s
    )
