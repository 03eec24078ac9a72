"""(d) Look longer at the defects of which the classifier is least sure."""

import sys

from latticewatch.messages import Policy
from latticewatch_client import Client, Gate, Loop, ZmqMicroscope, acts


def main(
    service: str, control: str, policy: Policy = "most-uncertain", steps: int = 5
) -> list[tuple[int, float, float]]:
    looked: list[tuple[int, float, float]] = []

    def look(do, target):
        acts.centre(do, target)
        sight = do.look(frames=5)
        if sight:  # else it was none
            looked.append((target.track.track, target.track.confidence, sight.track.confidence))

    with Client(service) as client, ZmqMicroscope(control) as microscope:
        Loop(client, microscope, policy, look, Gate(min_confidence=0.0)).run(steps)
    return looked


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
