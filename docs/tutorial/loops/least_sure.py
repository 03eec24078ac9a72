"""(d) See a sample in passing, then look longer where the classifier is least sure."""

import sys

from latticewatch.messages import Policy
from latticewatch_client import Client, Gate, Loop, ZmqMicroscope, tiles


def main(
    service: str, control: str, policy: Policy = "most-uncertain", steps: int = 4, n: int = 3
) -> list[int]:
    looked: list[int] = []

    def look(do, target):
        do.go_to(target.track.stage_nm.x, target.track.stage_nm.y)
        do.look(frames=10)
        looked.append(target.track.track)

    gate, fields = Gate(min_confidence=0.0), tiles(n, n, step_nm=4.0)
    with Client(service) as client, ZmqMicroscope(control) as microscope:
        # What is looked at may turn out to be none: that is no failure, so nothing is verified.
        loop = Loop(client, microscope, policy, look, gate, fields=fields, survey=1, verify_nm=None)
        loop.run(steps)
    return looked


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1], sys.argv[2])}\n")
