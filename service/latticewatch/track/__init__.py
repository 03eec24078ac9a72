"""Classified frames in; every site's identity, its class by the evidence of all frames, and transitions out."""

from latticewatch.track._records import ROLES, Observation, Tracked, Transition, TransitionType
from latticewatch.track._tracker import Tracker

__all__ = ["ROLES", "Observation", "Tracked", "Tracker", "Transition", "TransitionType"]
