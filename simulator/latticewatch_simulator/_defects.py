"""Point defects by name: which column they may replace, what they leave there, and how many there are.

=========  =============================================================  =================
name       meaning                                                        example
=========  =============================================================  =================
``X``      atom X in place of the single atom of a column                 ``Fe`` on W
``X_H``    the same, naming the column H                                  ``C_B`` in hBN
``X+Y``    X in place of one Y of a column Y2                             ``Te+S``
``X2``     X in place of both atoms of a column                           ``Te2``
``Y1``     one Y missing from a column Y2: single vacancy                 ``S1``
``V_H``    the whole column H missing: vacancy                            ``V_S2``, ``V_W``
``ad-X``   adatom X in the hollow of the unit cell, one site a cell       ``ad-Mo``
``H*f``    the column H scatters f times as much                          ``W*0.95``
``H@p``    the column H stands p picometres from its place, along +x      ``W@40``
=========  =============================================================  =================
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from ase.data import atomic_numbers

from latticewatch.errors import ConfigurationError
from latticewatch_simulator._crystal import Crystal
from latticewatch_simulator._settings import PARTNERS, SimulatorSettings
from latticewatch_simulator._signal import column_signal

DEFAULT_DENSITIES: dict[str, dict[str, float]] = {
    "WS2": {"Fe": 0.02, "Te+S": 0.02, "S1": 0.03, "V_S2": 0.015},
    "WSe2": {"Ti": 0.02, "Se1": 0.03, "V_Se2": 0.015, "V_W": 0.01},
    "MoS2": {"W": 0.02, "S1": 0.03, "V_S2": 0.015, "V_Mo": 0.01},
    "MoSe2": {"W": 0.02, "Se1": 0.03, "V_Se2": 0.015, "V_Mo": 0.01},
    "graphene": {"Si": 0.01, "N": 0.015, "V_C": 0.01},
    "hBN": {"C_B": 0.02, "C_N": 0.02, "V_B": 0.015, "V_N": 0.015},
    "SrTiO3": {"La_Sr": 0.02, "V_Sr": 0.02},
    "SrRuO3": {"Ba_Sr": 0.02, "V_Sr": 0.02},
    "PbTiO3": {"Sr_Pb": 0.02, "V_Pb": 0.02},
}
# Electrons per square angstrom and frame at which one frame tells these defects from their hosts.
DEFAULT_DOSES = {"graphene": 5e5, "hBN": 1e6}
DICHALCOGENIDE_DOSE = 1e5
ADATOM = -1
# Fractions of the columns that differ where a specimen is made of what is weak, and of what is displaced.
WEAK_SHARE, DISPLACED_SHARE = 0.04, 0.05
# What sits in hollows.
HOLLOW_ATOM = "Mo"


@dataclass(frozen=True, slots=True)
class DefectKind:
    """One kind of point defect.

    Attributes
    ----------
    species : str
        Name, which is the species of the column in the truth.
    hosts : tuple of int
        Columns of the unit cell that it may replace; ``(ADATOM,)`` for the hollow.
    density : float
        Fraction of those columns, or of the unit cells.
    signal : float
        Fraction of the beam that the column then scatters.
    shift_nm : float
        How far the column then stands from its place, along +x.
    """

    species: str
    hosts: tuple[int, ...]
    density: float
    signal: float
    shift_nm: float = 0.0


def default_dose(settings: SimulatorSettings) -> float:
    """Electrons per square angstrom and frame."""
    if settings.dose_e_per_a2 is not None:
        return settings.dose_e_per_a2
    return (
        DICHALCOGENIDE_DOSE
        if settings.structure
        else DEFAULT_DOSES.get(settings.material, DICHALCOGENIDE_DOSE)
    )


def defect_kinds(settings: SimulatorSettings, crystal: Crystal) -> tuple[DefectKind, ...]:
    """Every kind of defect in the specimen; those that only come later are last, with density zero.

    Raises
    ------
    ConfigurationError
        A name that does not fit the crystal, or a density outside 0 to 1.
    """
    densities = settings.defects if settings.defects is not None else _usual(settings, crystal)
    to_come = (name for name in species_to_come(settings, crystal) if name not in densities)
    densities = {**densities, **dict.fromkeys(to_come, 0.0)}
    kinds = tuple(_kind(name, density, crystal) for name, density in densities.items())
    for host in (ADATOM, *range(len(crystal.atoms))):
        total = sum(kind.density for kind in kinds if host in kind.hosts)
        if total > 1:
            where = "adatoms" if host == ADATOM else f"defects on {crystal.species[host]}"
            raise ConfigurationError(f"densities of {where} sum to {total:g}; give 1 at most")
    return kinds


def _usual(settings: SimulatorSettings, crystal: Crystal) -> Mapping[str, float]:
    """Defects of a specimen where nothing is said of them."""
    name, amount = settings.specimen, settings.of_specimen
    brightest = crystal.species[crystal.brightest()]
    if name == "weak":
        return {f"{brightest}*{1 + amount / 100:g}": WEAK_SHARE}
    if name == "displaced":
        return {f"{brightest}@{amount:g}": DISPLACED_SHARE}
    if name == "hollow":
        return {f"ad-{HOLLOW_ATOM}": amount}
    if name == "lone":
        return dict.fromkeys(lone_species(settings, crystal), 0.0)
    if settings.structure is not None:
        return {}
    usual = DEFAULT_DENSITIES[settings.material]
    if name == "alloy":
        return {
            species: share for species, share in usual.items() if species != PARTNERS[settings.material][0]
        }
    return usual


def lone_species(settings: SimulatorSettings, crystal: Crystal) -> tuple[str, ...]:
    """What there is one of each in a specimen of lone defects: a vacancy, and a foreign atom where one is known."""
    foreign = () if settings.structure is not None else tuple(DEFAULT_DENSITIES[settings.material])[:1]
    return (birth_species(settings, crystal), *foreign)


def species_to_come(settings: SimulatorSettings, crystal: Crystal) -> tuple[str, ...]:
    """Species that may come into the specimen while it is looked at."""
    if settings.dynamics == "births":
        return (birth_species(settings, crystal),) if settings.births_per_frame else ()
    steps = vacancy_steps(settings, crystal)
    if not (settings.substitution_a2 or settings.replacement_a2):
        return steps
    return (*steps, substitute_species(settings, crystal))


def vacancy_steps(settings: SimulatorSettings, crystal: Crystal) -> tuple[str, ...]:
    """What the host of the newborn vacancy becomes as it loses its atoms: S1 and V_S2 of S2, V_W of W."""
    single = birth_species(settings, crystal)
    if match := re.fullmatch(r"([A-Z][a-z]?)1", single):
        return single, f"V_{match[1]}2"
    if single.startswith("V_"):
        return (single,)
    raise ConfigurationError(
        f"beam damage by {single}: the beam takes atoms away; give a vacancy such as S1 or V_W"
    )


def substitute_species(settings: SimulatorSettings, crystal: Crystal) -> str:
    """What a single vacancy is when another element has filled it."""
    if settings.substitute is not None:
        return settings.substitute
    single = birth_species(settings, crystal)
    if not single.startswith("V_"):
        return f"C+{single[:-1]}"
    host = single[2:]
    element = "N" if host == "C" else "C"
    alone = sum(len(atoms) == 1 for atoms in crystal.atoms) == 1 or len(set(crystal.species)) == 1
    return element if alone else f"{element}_{host}"


def birth_species(settings: SimulatorSettings, crystal: Crystal) -> str:
    """Species that the beam makes: a single vacancy of a two-atom column, else of the lightest column."""
    if settings.birth_species is not None:
        if settings.birth_species.startswith("ad-"):
            raise ConfigurationError(
                f"births of {settings.birth_species}: adatoms are not born; give a vacancy such as S1"
            )
        return settings.birth_species
    pairs = [atoms[0] for atoms in crystal.atoms if len(atoms) == 2 and atoms[0] == atoms[1]]
    if pairs:
        return f"{pairs[0]}1"
    lightest = min(range(len(crystal.atoms)), key=lambda column: column_signal(crystal.atoms[column]))
    return f"V_{crystal.species[lightest]}"


def _kind(name: str, density: float, crystal: Crystal) -> DefectKind:
    if not 0 <= density <= 1:
        raise ConfigurationError(
            f"defect {name}: density {density:g}; give a fraction of the columns, 0 to 1"
        )
    if match := re.fullmatch(r"(\S+?)([*@])(\d+(?:\.\d+)?)", name):
        return _changed(name, match[1], match[2], float(match[3]), density, crystal)
    hosts, atoms = _resolve(name, crystal)
    unknown = [symbol for symbol in atoms if symbol not in atomic_numbers]
    if unknown:
        raise ConfigurationError(f"defect {name}: {unknown[0]} is not an element")
    if not hosts:
        raise ConfigurationError(
            f"defect {name}: {crystal.name} has no column for it; its columns are "
            f"{', '.join(sorted(set(crystal.species)))}"
        )
    replaced = {crystal.species[host] for host in hosts if host != ADATOM}
    if len(replaced) > 1:
        choices = " or ".join(f"{name}_{host}" for host in sorted(replaced))
        raise ConfigurationError(f"defect {name}: more than one column fits; say {choices}")
    return DefectKind(name, hosts, density, column_signal(atoms))


def _changed(name: str, host: str, how: str, amount: float, density: float, crystal: Crystal) -> DefectKind:
    """A column of the crystal that scatters more or less, or stands elsewhere."""
    hosts = crystal.columns_of(host)
    if not hosts:
        columns = ", ".join(sorted(set(crystal.species)))
        raise ConfigurationError(
            f"defect {name}: {crystal.name} has no column {host}; its columns are {columns}"
        )
    signal = column_signal(crystal.atoms[hosts[0]])
    if how == "*":
        return DefectKind(name, hosts, density, amount * signal)
    return DefectKind(name, hosts, density, signal, amount / 1000)


def _resolve(name: str, crystal: Crystal) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Columns that a defect may replace, and the atoms that it leaves there."""

    def columns(*wanted: str) -> tuple[int, ...]:
        return tuple(k for k, atoms in enumerate(crystal.atoms) if atoms == wanted)

    def pairs() -> tuple[int, ...]:
        return tuple(
            k for k, atoms in enumerate(crystal.atoms) if len(atoms) == 2 and crystal.species[k] != name
        )

    if match := re.fullmatch(r"ad-([A-Z][a-z]?)", name):
        return (ADATOM,), (match[1],)
    if match := re.fullmatch(r"(V|[A-Z][a-z]?)_(\S+)", name):
        return crystal.columns_of(match[2]), () if match[1] == "V" else (match[1],)
    if match := re.fullmatch(r"([A-Z][a-z]?)\+([A-Z][a-z]?)", name):
        return columns(match[2], match[2]), (match[1], match[2])
    if match := re.fullmatch(r"([A-Z][a-z]?)1", name):
        return columns(match[1], match[1]), (match[1],)
    if match := re.fullmatch(r"([A-Z][a-z]?)2", name):
        return pairs(), (match[1], match[1])
    if re.fullmatch(r"[A-Z][a-z]?", name):
        return tuple(k for k, atoms in enumerate(crystal.atoms) if len(atoms) == 1 and atoms != (name,)), (
            name,
        )
    raise ConfigurationError(
        f"defect {name!r}: say X, X_H, X+Y, X2, Y1, V_H, ad-X, H*f or H@p, such as Fe, Te+S, S1 or V_S2"
    )
