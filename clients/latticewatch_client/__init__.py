"""Calls in, messages out: the client of a Latticewatch service, and the control loop that uses it."""

from latticewatch.errors import (
    ControlError,
    ControlRefusedError,
    ControlTimeoutError,
    ControlUnreachableError,
    CursorGoneError,
    ServiceError,
    ServiceUnreachableError,
    StaleStreamError,
    UnauthorizedError,
    UnknownClassError,
)
from latticewatch_client import acts
from latticewatch_client._async import AsyncClient
from latticewatch_client._client import Client
from latticewatch_client._dose_book import Dose, DoseBook
from latticewatch_client._follow import Cursor
from latticewatch_client._gate import Gate, Ok, Refuse, Wait
from latticewatch_client._hands import Hands, Sight
from latticewatch_client._journal import Journal
from latticewatch_client._zmq_microscope import ZmqMicroscope
from latticewatch_client.fake import FakeService
from latticewatch_client.loop import Loop, LoopReport, Step, tiles
from latticewatch_client.microscope import Microscope
from latticewatch_client.publisher import Publisher, PublisherError

__all__ = [
    "AsyncClient",
    "Client",
    "ControlError",
    "ControlRefusedError",
    "ControlTimeoutError",
    "ControlUnreachableError",
    "Cursor",
    "CursorGoneError",
    "Dose",
    "DoseBook",
    "FakeService",
    "Gate",
    "Hands",
    "Journal",
    "Loop",
    "LoopReport",
    "Microscope",
    "Ok",
    "Publisher",
    "PublisherError",
    "Refuse",
    "ServiceError",
    "ServiceUnreachableError",
    "Sight",
    "StaleStreamError",
    "Step",
    "UnauthorizedError",
    "UnknownClassError",
    "Wait",
    "ZmqMicroscope",
    "acts",
    "tiles",
]
