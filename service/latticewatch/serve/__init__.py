"""The engine's state and events in; HTTP, websockets and the dashboard out."""

from latticewatch.serve._access import Access
from latticewatch.serve._app import create_app
from latticewatch.serve._service import Service, run_service
from latticewatch.serve._told import ToldEngine

__all__ = ["Access", "Service", "ToldEngine", "create_app", "run_service"]
