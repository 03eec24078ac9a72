"""(b) Keep one vacancy in the middle of the field while it hops and everything drifts."""

import sys

from latticewatch_client import Client, Loop, LoopReport, ZmqMicroscope, acts


def main(service: str, control: str, looks: int = 40, offsets: list[float] | None = None) -> LoopReport:
    def follow(do, target):
        for _ in range(looks):
            sight = acts.centre(do, target, tolerance_nm=0.05)
            if offsets is not None:
                offsets.append(sight.offset_nm)

    with Client(service) as client, ZmqMicroscope(control) as microscope:
        return Loop(client, microscope, "nearest", follow).run(steps=1)


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:3])}\n")
