"""Write docs/reference/performance.md from a run of the benchmark, on a machine with nothing else to do.

``latticewatch bench --json > bench.json && python docs/make_performance.py bench.json``
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent / "reference" / "performance.md"
TEXT = """# Performance

What `latticewatch bench` says on one machine: {cores} cores of a shared {architecture} server with {vectors},
{system}, Python {python}, {packages}. What is compared was measured in turn; where others work on the machine at
the same time, what needs all cores at once (the matrix product, motif-learn, the script, the live path) suffers
more than what needs one.

```bash
latticewatch bench
```

Medians, and in parentheses what four fifths of the measurements lie between. [Commands](commands.md) says what else
it can do, and how to have the numbers as JSON. Frames are simulated: WS2 with defects, 5 × 10⁴ electrons/Å²,
sampled at 0.012 nm/px, those of 512 px at 0.036 nm/px.

## Zernike moments

66 moments (n ≤ 10) of patches around the sites of a frame of 1024 × 1024 px. *Ours* takes them from the frame in
place, on whole pixels or bilinearly *interpolated* between them, on all cores that are idle; on *one thread* where
other frames keep the others busy. The *product* is one float32 matrix product with the whole basis, of patches that are
already copied out; *motif-learn* is its extraction of patches and `ZPs(10, size).fit_transform`. Ours are within 4
× 10⁻⁶ of float64 (Frobenius norm). [Why it is fast](../decisions/0012-moments-of-sixteen-patches-at-once.md).

{zernike}

## Whole frames

From decoded to classified and tracked, once the classes are learnt, one frame at a time; idle cores [help with
it](../decisions/0015-idle-cores-help.md). The *script* is what one would write with motif-learn and scikit-learn:
local maxima of the smoothed frame, patches, moments, `IncrementalPCA` (`partial_fit` and `transform`), nearest
centroid, on all cores; it has no lattice, no vacancies, no noise whitening, no roles and no tracks.

{frames}

{scaling}Stages of ours, with their share of a frame:

{stages}

Stages of the script:

{script}

## Live path

Frames of {rows} × {cols} px, replayed over ZeroMQ to the service, clients on websockets; each a process of its own,
all on the same {cores} cores.

{live}
"""


def main() -> None:
    """Read the document, write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("document", type=Path, help="What bench --json printed, with motif-learn installed.")
    document = json.loads(parser.parse_args().document.read_text(encoding="utf-8"))
    machine, frames, latency = document["machine"], document["frames"], document["latency"]
    ratio = document["ratio_4096_to_1024"]
    scaling = f"A frame of 4096² takes {ratio:.1f} times as long as one of 1024², for 16 times the pixels. "
    rows, cols = latency["shape_px"]
    # the page in the browser is measured by another script
    dashboard = PAGE.read_text(encoding="utf-8").partition("\n## Dashboard")
    PAGE.write_text(
        TEXT.format(
            **machine | {"packages": ", ".join(f"{k} {v}" for k, v in machine["packages"].items())},
            zernike=zernike_table(document["zernike"]),
            frames=frames_table(frames),
            scaling="" if ratio is None else scaling,
            stages=stages_table(frames, "stages"),
            script=stages_table(frames, "script_stages"),
            rows=rows,
            cols=cols,
            live=live_table(latency, document["sustained"]),
        )
        + "".join(dashboard[1:]),
        encoding="utf-8",
    )


def table(*rows: list[str]) -> str:
    """Markdown of a heading and its rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + len(rows[0]) * "---|", *lines[1:]])


def spread(values: dict[str, float], digits: int) -> str:
    """Median and what most lie between."""
    median, p10, p90 = (f"{values[name]:.{digits}f}" for name in ("median", "p10", "p90"))
    return f"{median} ({p10} – {p90})"


def zernike_table(ways: list[dict[str, Any]]) -> str:
    """One row a way to get the moments, and how many times as fast as the others it is."""
    rows = []
    for way in ways:
        median = way["us_per_patch"]["median"]
        same = [other for other in ways if other["patch_px"] == way["patch_px"]]
        ratios = [
            f"{other['us_per_patch']['median'] / median:.1f}"
            for word in ("product", "motif-learn")
            for other in same
            if word in other["name"]
        ]
        time = spread(way["us_per_patch"], 2)
        rows.append([f"{way['patch_px']} px", way["name"], time, f"{way['patches_per_s']:,.0f}", *ratios])
    return table(["patches", "way", "µs per patch", "patches/s", "× product", "× motif-learn"], *rows)


def frames_table(frames: list[dict[str, Any]]) -> str:
    """One row a size."""
    rows = [
        [
            "{} × {} px".format(*frame["shape_px"]),
            f"{frame['sites']:,}",
            f"{frame['patch_px']} px",
            spread(frame["ms"], 1),
            f"{frame['frames_per_s']:.1f}",
            spread(frame["script_ms"], 0),
            f"{frame['ratio']:.1f}",
        ]
        for frame in frames
    ]
    return table(["frame", "sites", "patch", "ms per frame", "frames/s", "script, ms", "× script"], *rows)


def stages_table(frames: list[dict[str, Any]], which: str) -> str:
    """One row a stage, one column a size."""
    rows = []
    for name in dict.fromkeys(stage["name"] for frame in frames for stage in frame[which]):
        row = [name]
        for frame in frames:
            found = [stage for stage in frame[which] if stage["name"] == name]
            row += [f"{s['ms']['median']:.1f} ms, {100 * s['share']:.0f} %" for s in found] or ["–"]
        rows.append(row)
    return table(["stage", *(f"{frame['shape_px'][0]}²" for frame in frames)], *rows)


def live_table(latency: dict[str, Any], sustained: dict[str, Any]) -> str:
    """Latency at a set rate, and the highest rate."""

    def p50_p99(what: str) -> str:
        return f"p50 {latency[f'{what}_ms_p50']:.1f} ms, p99 {latency[f'{what}_ms_p99']:.1f} ms"

    sent = (
        f"{latency['asked_frames_per_s']:g} frames/s sent for {latency['seconds']:.0f} s, one dashboard open"
    )
    analysed = f"{latency['analysed_frames_per_s']:.1f} frames/s analysed; "
    events = f"frame received → event readable ({latency['events']:,} events)"
    return table(
        ["what", "measured"],
        [sent, f"{analysed}{latency['dropped']} dropped, {latency['lost']} lost"],
        [events, p50_p99("event")],
        ["frame received → picture of the dashboard readable", p50_p99("picture")],
        ["highest sustained rate, no dashboard", f"{spread(sustained['frames_per_s'], 1)} frames/s"],
    )


if __name__ == "__main__":
    main()
