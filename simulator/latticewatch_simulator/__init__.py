"""Settings flow in; frames of a simulated microscope flow out over ZeroMQ, and their truth to a file.

crystal → specimen → scene → scan and detector → publisher; and a control socket for stage, scan and beam.
"""

from latticewatch_simulator._actions import Actions
from latticewatch_simulator._beam import Beam
from latticewatch_simulator._changes import Change, TrueEvent
from latticewatch_simulator._control import ControlServer
from latticewatch_simulator._crystal import Crystal, load_crystal
from latticewatch_simulator._defects import DEFAULT_DENSITIES, DefectKind
from latticewatch_simulator._dose import DoseMap
from latticewatch_simulator._drift import Drift
from latticewatch_simulator._microscope import Microscope, SimulatedFrame
from latticewatch_simulator._publisher import Publisher, is_local
from latticewatch_simulator._settings import MaterialName, SimulatorSettings, SpecimenName
from latticewatch_simulator._simulation import Simulation, run
from latticewatch_simulator._stage import Stage
from latticewatch_simulator._truth import FrameTruth, TruthWriter, read_truth

__all__ = [
    "DEFAULT_DENSITIES",
    "Actions",
    "Beam",
    "Change",
    "ControlServer",
    "Crystal",
    "DefectKind",
    "DoseMap",
    "Drift",
    "FrameTruth",
    "MaterialName",
    "Microscope",
    "Publisher",
    "SimulatedFrame",
    "Simulation",
    "SimulatorSettings",
    "SpecimenName",
    "Stage",
    "TrueEvent",
    "TruthWriter",
    "is_local",
    "load_crystal",
    "read_truth",
    "run",
]
