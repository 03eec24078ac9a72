"""Microscope files in; sites, classes, events and figures out, by the same pipeline that runs live."""

from latticewatch.offline._export import export_recording
from latticewatch.offline._run import AnalysedFile, analyse_file, run_file
from latticewatch.offline._write import ResultWriter, finished, summary, write_results

__all__ = [
    "AnalysedFile",
    "ResultWriter",
    "analyse_file",
    "export_recording",
    "finished",
    "run_file",
    "summary",
    "write_results",
]
