"""Colours of classes: fixed by the class id, told apart by the colour-blind, quiet where nothing is wrong."""

from __future__ import annotations

from latticewatch.messages._events import Role

# Hosts stay in the background: greys and greyed blues.
HOST = ("#8d99ae", "#6c7a93", "#a8b3c4", "#5d7f9a", "#9fb4c7", "#7d8597")
# Neighbours are seen but do not shout: the defects' hues, darkened or washed out.
NEIGHBOUR = ("#b59a57", "#6f9bb8", "#5f9c86", "#b07f9e", "#a8734f", "#9c9a63")
# Okabe and Ito (2008) without black, then light and dark steps of the same hues.
DEFECT = (
    "#e69f00",
    "#56b4e9",
    "#009e73",
    "#f0e442",
    "#cc79a7",
    "#d55e00",
    "#0072b2",
    "#ffc75f",
    "#a6dbff",
    "#66d4b5",
    "#f2b8d6",
    "#ff9a5c",
)
UNKNOWN = "#ffffff"


def colour_of(class_id: int, role: Role) -> str:
    """Colour ``#rrggbb`` of a class; sites without a class are white."""
    if class_id < 0 or role == "unknown":
        return UNKNOWN
    palette = {"host": HOST, "neighbour": NEIGHBOUR, "defect": DEFECT}[role]
    return palette[class_id % len(palette)]
