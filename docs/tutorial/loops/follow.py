"""(b) Keep one vacancy in the middle of the field while it hops and everything drifts."""

import sys

from latticewatch_client import Client, Loop, LoopReport, Sight, ZmqMicroscope, acts


def main(service: str, control: str, looks: int = 200, sights: list[Sight] | None = None) -> LoopReport:
    note = None if sights is None else sights.append
    with Client(service) as client, ZmqMicroscope(control) as microscope:
        return Loop(client, microscope, "nearest", acts.follow(looks, on_look=note)).run(steps=1)


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:3])}\n")
