"""Frames out of microscope software, to a publisher: each adapter is a call to the vendor, and a frame of its answer.

None of the vendors' packages is needed to import this; each adapter is handed the vendor's own object.
"""

from latticewatch_client.sources._autoscript import AutoScript
from latticewatch_client.sources._digital_micrograph import DigitalMicrograph
from latticewatch_client.sources._nion_swift import NionSwift
from latticewatch_client.sources._pyjem import PyJEM
from latticewatch_client.sources._relay import Grab, Grabbed, relay

__all__ = ["AutoScript", "DigitalMicrograph", "Grab", "Grabbed", "NionSwift", "PyJEM", "relay"]
