"""(a) Visit every defect of one kind on a sample of 3 x 3 fields, once."""

import sys

from latticewatch_client import Client, Gate, Journal, Loop, LoopReport, ZmqMicroscope, tiles


def main(
    service: str, control: str, journal: str, like: str = "Fe", n: int = 3, step: float = 5.0
) -> LoopReport:
    half = n * step / 2
    gate = Gate(box_nm=(-half, -half, half, half))
    fields = list(tiles(n, n, step))
    with Client(service) as client, ZmqMicroscope(control) as microscope, Journal(journal) as kept:
        defects = [one for one in client.classes() if one.role == "defect"]
        wanted = [one.name for one in defects if like in f"{one.template} {one.name}"]
        loop = Loop(client, microscope, gate=gate, journal=kept, classes=wanted, fields=fields)
        return loop.run(timeout=10)


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
