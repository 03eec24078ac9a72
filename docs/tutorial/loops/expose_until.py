"""(c) Let the beam on until three more vacancies have appeared, then blank it at once."""

import sys

from latticewatch.messages import Event
from latticewatch_client import Client, ZmqMicroscope


def main(service: str, control: str, wanted: int = 3) -> list[Event]:
    seen: list[Event] = []
    with Client(service) as client, ZmqMicroscope(control) as microscope:
        try:
            events = client.watch(types=["defect.appeared"]).events
            microscope.blank(False)
            while len(seen) < wanted:
                seen.append(next(events))
        finally:
            microscope.blank(True)
    return seen


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
