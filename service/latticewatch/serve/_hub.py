"""What every resource needs, made once for each application."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Response
from pydantic import BaseModel
from starlette.requests import HTTPConnection

from latticewatch.config import ServeSettings
from latticewatch.execute import Engine
from latticewatch.serve._access import Access
from latticewatch.serve._news import News
from latticewatch.serve._pace import Pace
from latticewatch.serve._picture import PictureCache
from latticewatch.serve._shared import Shared
from latticewatch.serve._target_book import TargetBook


@dataclass(frozen=True, slots=True, eq=False)
class Hub:
    """Engine, settings, keys, news, pictures, messages to pages and targets of one application."""

    engine: Engine
    settings: ServeSettings
    access: Access
    news: News = field(default_factory=News)
    pictures: PictureCache = field(default_factory=PictureCache)
    encoded: PictureCache = field(default_factory=PictureCache)
    pace: Pace = field(default_factory=Pace)
    messages: Shared = field(default_factory=Shared)
    targets: TargetBook = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "targets", TargetBook(self.engine.log, placed=self.engine.placed))


def hub_of(connection: HTTPConnection) -> Hub:
    """The hub of the application that a request came to."""
    return connection.app.state.hub


TheHub = Annotated[Hub, Depends(hub_of)]


def reply(model: BaseModel, status_code: int = 200) -> Response:
    """A message as JSON, written by pydantic itself: several times faster than by way of dictionaries."""
    return Response(model.model_dump_json(), status_code, media_type="application/json")
