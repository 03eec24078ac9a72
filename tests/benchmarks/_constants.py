"""The constants that decide: what is found, called and told depends on them. Why each has its value is said there.

``docs/reference/constants.md`` is made of this list and of the comments in the source, by ``docs/make_constants.py``.
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from pathlib import Path

SERVICE = Path(__file__).resolve().parents[2] / "service" / "latticewatch"


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant that decides.

    Attributes
    ----------
    file, name : str
        Where it is, below ``service/latticewatch``.
    unit : str
    below, above : str
        What goes wrong where it is too small, and too large.
    most : float
        It cannot be larger.
    """

    file: str
    name: str
    unit: str
    below: str
    above: str
    most: float = float("inf")

    @property
    def path(self) -> Path:
        """The module."""
        return SERVICE / self.file

    def value(self) -> float:
        """As it is in the source.

        Raises
        ------
        LookupError
            It is not there.
        """
        for node in ast.parse(self.path.read_text()).body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(isinstance(t, ast.Name) and t.id == self.name for t in targets):
                    return float(ast.literal_eval(node.value))
        raise LookupError(
            f"{self.file}: no {self.name}; take it off tests/benchmarks/_constants.py, or give its new place, "
            "then run docs/make_constants.py"
        )

    def why(self) -> str:
        """The comment above it, or above the constants that it stands with."""
        lines = self.path.read_text().splitlines()
        at = next(k for k, line in enumerate(lines) if re.match(rf"{self.name}\b.*=", line))
        while at > 0 and re.match(r"[A-Z][A-Z0-9_, ]*(:.*)? = ", lines[at - 1]):
            at -= 1
        said = []
        while at > 0 and lines[at - 1].startswith("#"):
            at -= 1
            said.insert(0, lines[at].lstrip("# "))
        return " ".join(said)

    def in_kernel(self) -> bool:
        """Whether compiled code holds its value: kernels are compiled anew for another one."""
        for node in ast.walk(ast.parse(self.path.read_text())):
            if isinstance(node, ast.FunctionDef) and any(
                "jit" in ast.unparse(d) or "kernel" in ast.unparse(d) for d in node.decorator_list
            ):
                names = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
                if self.name in names:
                    return True
        return False


CONSTANTS = (
    Constant(
        "lattice/_spectrum.py",
        "MIN_SIGNIFICANCE",
        "local means",
        "noise is taken for a lattice",
        "faint lattices are not seen",
    ),
    Constant(
        "lattice/_lattice.py",
        "MIN_COHERENCE",
        "share",
        "smooth noise is taken for a crystal",
        "strained and low-dose crystals are refused",
        most=0.95,
    ),
    Constant(
        "lattice/_lattice.py",
        "MIN_STRENGTH",
        "standard deviations",
        "what leaks through the window is followed",
        "weak waves are left out, and columns with them",
    ),
    Constant(
        "lattice/_phase.py",
        "MIN_COVER",
        "share",
        "sites in holes and beyond edges",
        "no sites where the specimen is thin",
        most=0.95,
    ),
    Constant(
        "lattice/_polarity.py",
        "MIN_MISFIT",
        "share of the range",
        "frames of bright columns are fitted twice",
        "dark columns are read as the gaps between them",
    ),
    Constant(
        "lattice/_cell.py",
        "SLOW_SPACINGS",
        "distances of the farthest planes",
        "the lattice itself is taken for slow",
        "dim columns are lost where there is dirt",
    ),
    Constant(
        "lattice/_cell.py",
        "MIN_PROMINENCE_SIGMA",
        "standard deviations",
        "ripples of the average cell become columns",
        "faint columns are lost at low dose",
    ),
    Constant(
        "lattice/_cell.py",
        "MIN_PROMINENCE_SHARE",
        "share of the range",
        "tails of the probe become columns",
        "faint columns are lost at any dose",
    ),
    Constant(
        "lattice/_background.py",
        "WINDOW_CELLS",
        "lattice constants",
        "the background takes defects in",
        "contamination is left in",
    ),
    Constant(
        "lattice/_background.py",
        "MODEL_ERROR",
        "share of a height",
        "at high dose the model's own error passes for signal",
        "at high dose nothing weak is seen",
    ),
    Constant(
        "lattice/_background.py",
        "DIRT_HEIGHT",
        "share of a height",
        "contamination that is smooth is called dirt",
        "dirt is full of defects",
    ),
    Constant(
        "lattice/_background.py",
        "DIRT_HEIGHT_EDGED",
        "share of a height",
        "what defects in a crowd leave is called dirt",
        "faint dirt is full of defects",
    ),
    Constant(
        "lattice/_background.py",
        "DIRT_SIGMA",
        "standard deviations",
        "noise joins dirt to all the rest",
        "faint dirt is full of defects",
    ),
    Constant(
        "lattice/_domains.py",
        "MIN_SIGMA",
        "standard deviations",
        "strain and noise tear one crystal in two domains",
        "domains that differ little have sites of the wrong sublattice",
    ),
    Constant(
        "lattice/_domains.py",
        "MIN_DECIDED",
        "share of the nodes",
        "a boundary is seen where nothing is decided",
        "small domains are not seen",
        most=0.95,
    ),
    Constant(
        "lattice/_domains.py",
        "MIN_SHIFT_DEG",
        "degrees of a wave",
        "what bends a scan passes for shifted domains",
        "domains shifted by little have a line of false defects between them",
    ),
    Constant(
        "lattice/_domains.py",
        "MIN_SHIFT_DECIDED",
        "share of the nodes",
        "a phase that changes slowly passes for a boundary",
        "domains whose boundary is long are not told apart",
        most=0.95,
    ),
    Constant(
        "lattice/_domains.py",
        "BOUNDARY_CELLS",
        "lattice constants",
        "columns at a boundary are defects",
        "defects near a boundary are not told",
    ),
    Constant(
        "lattice/_supercell.py",
        "FEW_STRENGTH",
        "share of the strongest wave",
        "of few cells a few odd columns make a larger cell",
        "of few cells a part is taken for the whole",
    ),
    Constant(
        "lattice/_lattice.py",
        "DIPS",
        "share of the frame",
        "frames are followed twice where nothing hides the lattice",
        "sites around heavy atoms in hollows are left out",
        most=0.95,
    ),
    Constant(
        "lattice/_lines.py",
        "MIN_SHARE",
        "share of the variance",
        "lines are measured in every frame, which takes time and brings nothing",
        "weak changes of height are hidden by displaced lines",
        most=0.9,
    ),
    Constant(
        "lattice/_rare.py",
        "MOST_OF_IT",
        "share of the height of a column",
        "columns with a few bright atoms are none",
        "bright atoms in few hollows are a column, and all other hollows lack it",
        most=0.95,
    ),
    Constant(
        "lattice/_outliers.py",
        "BRIGHTER",
        "times the height of nine of ten",
        "the brighter columns of an alloy are left out where its cell is looked for",
        "bright atoms hide the waves of a larger cell",
    ),
    Constant(
        "lattice/_thickness.py",
        "MIN_VARIATION",
        "ratio of heights",
        "noise of the height passes for thickness",
        "wedges are full of defects",
    ),
    Constant(
        "lattice/_thickness.py",
        "MIN_HEIGHT",
        "share of the usual height",
        "sites where no lattice is seen",
        "no sites where the specimen is thin",
        most=0.9,
    ),
    Constant(
        "lattice/_thickness.py",
        "STEP_RATIO",
        "ratio of heights",
        "noise of the height passes for steps",
        "columns on the rim of a step are defects",
    ),
    Constant(
        "lattice/_thickness.py",
        "OWN_SHARE",
        "share of the ramp",
        "columns at the very step are taken for the other side's",
        "a vacancy on the rim passes for a column of the thin side",
        most=1.0,
    ),
    Constant(
        "lattice/_thickness.py",
        "MIXED_SHARE",
        "share of the variation",
        "the noise of single cells hides a step",
        "an alloy passes for a step",
    ),
    Constant(
        "pipeline/_withheld.py",
        "AS_ELSEWHERE",
        "probability",
        "columns of a ragged step are defects",
        "vacancies beside a straight step are not told",
        most=1.0,
    ),
    Constant(
        "pipeline/_analyse.py",
        "PATCH_NEIGHBOUR_DISTANCES",
        "nearest-neighbour distances",
        "the column is cut off",
        "patches hold more neighbours than signal",
    ),
    Constant(
        "pipeline/_regions.py",
        "SHARE_AROUND",
        "of the columns around",
        "dense vacancies are a region",
        "the rim of a region is told as defects",
        most=1.0,
    ),
    Constant(
        "pipeline/_regions.py",
        "FEWEST_SITES",
        "sites",
        "a cluster of defects is a region",
        "small patches are told site by site",
    ),
    Constant(
        "pipeline/_regions.py",
        "SHARE_ODD",
        "of the sites of a region",
        "a cluster of vacancies is a region",
        "contamination whose light is taken for changes of height is defects",
        most=1.0,
    ),
    Constant(
        "model/_mixture.py",
        "MIN_SEPARATION",
        "standard deviations",
        "tails of the host become classes",
        "faint classes stay in the host",
    ),
    Constant(
        "model/_local.py",
        "SITES_TOGETHER",
        "sites",
        "the local level follows noise and defects",
        "it does not follow contamination and thickness",
    ),
    Constant(
        "model/_oddities.py",
        "ODD_PRIOR",
        "share of the sites",
        "what is odd stays a host",
        "hosts that noise makes odd are reported",
        most=0.1,
    ),
    Constant(
        "model/_shared.py",
        "SURELY_SHARED",
        "standard deviations",
        "noise of the medians is taken off as if hosts shared it",
        "hosts of another focus are unknown",
    ),
    Constant(
        "model/_shared.py",
        "MOST_SHARED",
        "variance of hosts",
        "hosts of another focus are unknown",
        "another specimen passes for the host",
    ),
    Constant(
        "discover/_grow.py",
        "RELATIVE_SPREAD",
        "share of the distance",
        "classes whose members differ are torn in two",
        "classes side by side become one",
    ),
    Constant(
        "discover/_grow.py",
        "MIN_MEMBERS",
        "sites",
        "outliers of noise become classes",
        "rare kinds are found late or never",
    ),
    Constant(
        "discover/_grow.py",
        "EXPECTED_OUTLIERS",
        "sites of a frame",
        "members far out are forced into a class",
        "members far out are called unknown",
    ),
    Constant(
        "discover/_grow.py",
        "LONE_CHANCE",
        "chance",
        "a lone defect stays unknown",
        "the farthest host becomes a defect",
        most=0.5,
    ),
    Constant(
        "discover/_rounds.py",
        "OWN_MARGIN",
        "standard deviations",
        "what hosts differ by becomes classes",
        "weak changes stay in the host",
    ),
    Constant(
        "discover/_rounds.py",
        "HOST_SHARE",
        "share of a sublattice",
        "common defects are called hosts",
        "alloys are full of defects",
        most=0.9,
    ),
    Constant(
        "discover/_filter.py",
        "TRIM_SIGMA",
        "standard deviations",
        "the noise of the host is taken for less than it is",
        "defects enter what hosts are said to be like",
    ),
    Constant(
        "discover/_odd.py",
        "CANDIDATE",
        "standard deviations",
        "noise fills the pool of what is odd",
        "displaced and foreign columns never get there",
    ),
    Constant(
        "discover/_pool.py",
        "FRAMES_NEEDED",
        "frames",
        "a class is born of a flash",
        "a kind is told late",
    ),
    Constant(
        "discover/_pool.py",
        "MAX_SHARE",
        "share of the sites",
        "where much changes nothing is born",
        "a region of dirt becomes classes",
        most=0.9,
    ),
    Constant(
        "discover/_displaced.py",
        "CHANCE",
        "chance",
        "short displacements are not seen",
        "hosts are called displaced",
        most=0.5,
    ),
    Constant(
        "discover/_displaced.py",
        "SAME_SHARE",
        "share of the length",
        "one kind becomes several",
        "several directions become one",
    ),
    Constant(
        "model/_shifts.py",
        "HEIGHT_SIGMA",
        "standard deviations",
        "displaced columns are taken for changed ones",
        "changed ones are taken for displaced",
    ),
    Constant(
        "model/_shifts.py",
        "STRAIN_SHARE",
        "share of the displacement",
        "a displaced column beside another passes for strain",
        "strain is full of displaced columns",
        most=0.95,
    ),
    Constant(
        "model/_sources.py",
        "RARER",
        "sigma²",
        "a changed column passes for an atom beside it",
        "a weak atom between columns passes for a change of both",
    ),
    Constant(
        "model/_sources.py",
        "CLEARLY",
        "sigma²",
        "noise beside a bright column passes for an atom",
        "a weak atom between columns is not told",
    ),
    Constant(
        "model/_sources.py",
        "APART",
        "reaches of a place",
        "one atom is reported at two places",
        "of two atoms side by side one is not told",
    ),
    Constant(
        "track/_segments.py",
        "SETTLED",
        "nats",
        "doubt is reported as change",
        "changes of a site in doubt are told late",
    ),
    Constant(
        "track/_segments.py",
        "SURE",
        "nats",
        "the past is forgotten for a chance",
        "the past holds on after a change",
    ),
    Constant(
        "track/_registration.py",
        "LINK_RADIUS",
        "lattice constants",
        "tracks break",
        "tracks go to another site",
        most=0.6,
    ),
    Constant(
        "pipeline/_follow.py",
        "HALF_LIFE_FRAMES",
        "frames",
        "classes wander with the noise",
        "classes stay behind the drift",
    ),
    Constant(
        "pipeline/_follow.py",
        "SAFE_SIGMA",
        "standard deviations",
        "a class beside the host is drawn into it",
        "classes that could follow the stream stand still",
    ),
    Constant(
        "pipeline/_pulled.py",
        "FELT_SIGMA",
        "standard errors of a column's place",
        "frames are followed anew for nothing, and take twice as long",
        "columns around a bright atom seem displaced",
    ),
    Constant(
        "pipeline/_search.py",
        "MORE_FRAMES",
        "ratio of numbers of frames",
        "searches follow one another and find the same",
        "hidden classes are found late",
    ),
    Constant(
        "pipeline/_search.py",
        "FIRST_FRAMES",
        "frames",
        "a search finds what learning found",
        "the first search comes late",
    ),
    Constant(
        "pipeline/_search.py",
        "SEEN_SHARE",
        "share of the frames",
        "averages of few frames pass for noise as low as the others'",
        "young tracks are left out",
        most=0.95,
    ),
    Constant(
        "discover/_again.py",
        "SAME_SHARE",
        "share of the height",
        "a class that is known is found once more",
        "two classes become one",
        most=0.95,
    ),
    Constant(
        "discover/_again.py",
        "HIDDEN_SIGMA",
        "standard deviations",
        "what single frames hide is never looked for",
        "classes that are followed frame by frame are moved",
    ),
    Constant(
        "discover/_again.py",
        "CHANCE_P",
        "probability",
        "a weak class waits for more frames than it needs",
        "the few sites that differ most in averages of few frames become a class of false defects",
        most=0.5,
    ),
    Constant(
        "discover/_again.py",
        "EXPLAINED_P",
        "probability",
        "what is left of the light of larger changes becomes a class of false defects",
        "a weak class that is near others by chance waits for another search",
        most=0.95,
    ),
    Constant(
        "discover/_again.py",
        "ONE_SIGMA",
        "standard deviations",
        "one class stays two",
        "classes side by side become one",
    ),
    Constant(
        "discover/_gathered.py",
        "MOST_FRAMES",
        "frames",
        "averages keep more noise",
        "averages stay behind what changes",
    ),
    Constant(
        "discover/_gathered.py",
        "LEAST_FALL",
        "power",
        "averages become longer where nothing is gained, and stay behind what changes",
        "faint classes are never looked for",
    ),
    Constant(
        "pipeline/_judge.py",
        "MORE_ODD",
        "share of the sites",
        "frames of a specimen that changes teach nothing",
        "glitches teach",
    ),
    Constant(
        "pipeline/_judge.py",
        "FEW_SITES",
        "share of the usual number",
        "what is left of a blanked frame teaches",
        "a drift to an edge of the specimen teaches nothing",
        most=0.95,
    ),
    Constant(
        "pipeline/_judge.py",
        "MOST_BENT",
        "share of a lattice vector",
        "a drift of the stage teaches nothing",
        "frames of a moving stage teach",
    ),
)
