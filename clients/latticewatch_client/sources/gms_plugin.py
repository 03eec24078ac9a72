"""Publishes the image in front from inside DigitalMicrograph (Gatan Microscopy Suite 3.4 and later).

Start a scan, open this file in GMS's Python window, choose to execute it on a background thread, and run it; or give it
a menu entry with *File > Install Script File*. It goes on until the script is ended.

Its Python needs this package and pyzmq. The settings are the three names in capitals below.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from latticewatch_client.publisher import Publisher, PublisherError
from latticewatch_client.sources import DigitalMicrograph, relay

ADDRESS = "tcp://127.0.0.1:5555"
"""Where to listen; ``tcp://0.0.0.0:5555`` for a service on another computer, in a network that is yours."""
PUSH = False
"""Hold the scan's frames until the service takes them; it then needs ``--pull --lossless``."""
DETECTOR = None
"""Said with every frame, such as ``"HAADF"``."""


def run(dm: Any, address: str = ADDRESS, *, frames: int | None = None) -> int:
    """Publish the image that is in front now, whenever a scan of it is complete.

    Parameters
    ----------
    dm : module
        ``DigitalMicrograph``.
    address : str
    frames : int, optional
        How many; without it, until the script is ended.

    Returns
    -------
    int
        How many were sent. What is wrong is said in a dialog.
    """
    # Older releases cannot say.
    if getattr(dm, "IsScriptOnMainThread", bool)():
        dm.OkDialog(
            "latticewatch: choose to execute this script on a background thread; GMS would hang meanwhile"
        )
        return 0
    try:
        source = DigitalMicrograph(dm)
        with Publisher(address, push=PUSH, detector=DETECTOR) as publisher:
            dm.Result(f"latticewatch: publishing the image in front at {publisher.address}\n")
            return relay(source, publisher, frames=frames)
    except PublisherError as error:
        dm.OkDialog(f"latticewatch: {error}")
        return 0


if __name__ == "__main__":
    try:
        inside = importlib.import_module("DigitalMicrograph")
    except ModuleNotFoundError:
        sys.exit("this runs inside DigitalMicrograph: open it in GMS's Python window")
    run(inside)
