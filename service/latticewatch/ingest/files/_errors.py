"""Whatever a reader raises in; one line that names the file, what is wrong and what to do, out."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

from latticewatch.errors import FileError

# Packages that files need beside what `latticewatch[io]` brings; a module's name is not always its package's.
PACKAGE_OF = {"PIL": "pillow", "skimage": "scikit-image", "rsciio": "rosettasciio"}
IN_IO = {
    "h5py",
    "imagecodecs",
    "numcodecs",
    "pint",
    "rsciio",
    "sparse",
    "tifffile",
    "zarr",
    "dask",
    "imageio",
}


@contextlib.contextmanager
def errors_of(path: Path, format_name: str | None = None) -> Iterator[None]:
    """Turn whatever a reader raises into one line; silence what it says on standard error."""
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except FileError:
        raise
    except ImportError as error:
        raise FileError(f"{path}: reading it needs {_install(error)}") from error
    except Exception as error:
        said = " ".join(str(error).split())[:120]
        if "imagecodecs" in said:
            raise FileError(
                f"{path}: reading it needs the package imagecodecs; pip install imagecodecs"
            ) from error
        if "filter" in said and ("plugin" in said.lower() or "decompression" in said.lower()):
            raise FileError(
                f"{path}: compressed with a filter that h5py does not have; pip install hdf5plugin"
            ) from error
        kind = f" as {format_name}" if format_name else ""
        raise FileError(
            f"{path}: cannot be read{kind} ({type(error).__name__}{': ' if said else ''}{said}); "
            "the file is damaged, incomplete, or of another format than its name says"
        ) from error
    finally:
        logging.disable(disabled)


def _install(error: ImportError) -> str:
    """The package and the command that installs it; some readers name it only in words."""
    module = (error.name or "").split(".")[0]
    if not module:
        words = str(error).replace("`", "'").split("'")
        module = words[1] if len(words) > 2 else ""
    if not module:
        return f"a package that is not installed ({' '.join(str(error).split())[:120]})"
    package = PACKAGE_OF.get(module, module)
    wanted = "'latticewatch[io]'" if module in IN_IO else package
    return f"the package {package}; pip install {wanted}"
