"""(a) Visit every defect of one kind on a sample of 3 x 3 fields, once, and expose each for a moment."""

import sys

from latticewatch_client import Client, Gate, Journal, Loop, LoopReport, ZmqMicroscope, acts, tiles


def main(
    service: str, control: str, journal: str, like: str = "Fe", n: int = 3, step: float = 5.0
) -> LoopReport:
    half, fields = n * step / 2, list(tiles(n, n, step))
    sample, box = (-half, -half, half, half), (-4 * half, -4 * half, 4 * half, 4 * half)
    gate = Gate(sample_nm=sample, box_nm=box, max_dose_e_per_a2=2e8, max_electrons=1e12)
    act = acts.expose(0.05)
    with Client(service) as client, ZmqMicroscope(control) as microscope, Journal(journal) as kept:
        wanted = [one.name for one in client.classes() if one.role == "defect" and like in one.name]
        if not wanted:
            sys.exit(f"no class is called like {like!r}: serve with --material WS2:{like}, or name one")
        loop = Loop(client, microscope, "nearest", act, gate, kept, classes=wanted, fields=fields)
        return loop.run(timeout=10)


if __name__ == "__main__":
    sys.stdout.write(f"{main(*sys.argv[1:])}\n")
