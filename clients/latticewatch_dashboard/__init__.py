"""The dashboard: the live API of a service goes in, a picture of what it sees comes out, in any browser.

Static files without a build step; the service mounts the directory that `static_path` gives.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

__all__ = ["static_path"]


def static_path() -> Path:
    """Directory of the page: ``index.html``, style sheets and ES modules.

    Returns
    -------
    Path
        Serve it with ``index.html`` as the default document. Everything it loads is relative to itself, so a path
        prefix works too; the API is expected at ``v1/`` beside it.
    """
    return Path(str(files(__name__) / "static"))
