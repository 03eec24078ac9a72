"""The engine's state and events in; HTTP, websockets and the dashboard out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from latticewatch.serve._access import Access
from latticewatch.serve._app import create_app
from latticewatch.serve._service import Service, run_service

if TYPE_CHECKING:
    from latticewatch.serve._told import ToldEngine

__all__ = ["Access", "Service", "ToldEngine", "create_app", "run_service"]


def __getattr__(name: str) -> Any:
    # It needs the model and its kernels, and a service has to answer before those are imported.
    if name == "ToldEngine":
        from latticewatch.serve._told import ToldEngine

        return ToldEngine
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
