"""Watch the atomic lattice under a scanning transmission electron microscope while it changes."""

__version__ = "0.1.0"
