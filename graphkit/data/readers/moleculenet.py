"""MoleculeNet's tables of SMILES, as PyG's MoleculeNet reads them. (opt: rdkit, torch_geometric)"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from ...errors import DataError, need
from ..raw import Raw

_log = logging.getLogger(__name__)


def read_moleculenet(
    files: Mapping[str, bytes], *, smiles: int, targets: Sequence[int], lenient: bool = False
) -> Raw:
    """A graph for each row: x int64 [N, 9] of atoms, edge_attr int64 [E, 3] of bonds, both ways.

    ``smiles`` and ``targets`` are the numbers of columns; y float32 [G, T], NaN where a cell is
    empty. Edges are ordered by source, then target. RDKit refuses some molecules for the valence of
    an atom, other releases others: they are left out, as in PyG, unless ``lenient`` skips that
    check for them.
    """
    need("rdkit")
    from rdkit import rdBase  # pyright: ignore[reportMissingImports]

    name, rows = _rows(files)
    tables = _maps()
    atoms: list[tuple[int, ...]] = []
    bonds: list[tuple[int, ...]] = []
    node_ptr, edge_ptr, values = [0], [0], []
    with rdBase.BlockLogs():
        for number, row in enumerate(rows, 2):
            text, target = _cells(f"{name}: line {number}", row, smiles, targets)
            molecule = _molecule(text, lenient)
            if molecule is None:
                _log.warning("%s: line %d is left out, RDKit refuses %r.", name, number, text)
                continue
            _append(molecule, tables, node_ptr[-1], atoms, bonds)
            node_ptr.append(len(atoms))
            edge_ptr.append(len(bonds))
            values.append(target)
    x = torch.tensor(atoms, dtype=torch.int64).view(-1, 9)
    bond = torch.tensor(bonds, dtype=torch.int64).view(-1, 5)
    bond = bond[torch.argsort(bond[:, 0] * len(x) + bond[:, 1])]
    start = torch.tensor(node_ptr)
    of_edge = torch.repeat_interleave(start[:-1], torch.tensor(edge_ptr).diff())
    return Raw(
        {
            "node_ptr": start,
            "edge_ptr": torch.tensor(edge_ptr),
            "edge_index": (bond[:, :2] - of_edge[:, None]).t().contiguous(),
            "x": x,
            "edge_attr": bond[:, 2:].contiguous(),
            "y": torch.tensor(values).view(len(values), len(targets)),
        }
    )


def _rows(files: Mapping[str, bytes]) -> tuple[str, list[list[str]]]:
    """The file's name, and the cells of its lines below the header."""
    if len(files) != 1:
        raise DataError(
            f"MoleculeNet needs one table, got {', '.join(files) or 'no files'}. "
            "List one file on the card."
        )
    ((name, data),) = files.items()
    try:
        rows = list(csv.reader(io.StringIO(data.decode("utf-8")), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(
            f"{name}: not a table of comma-separated text ({error}). Fetch the file again."
        ) from error
    if len(rows) < 2:
        raise DataError(
            f"{name}: {len(rows)} lines, but a header and rows are expected. Fetch the file again."
        )
    return name, [row for row in rows[1:] if row]


def _cells(
    where: str, row: Sequence[str], smiles: int, targets: Sequence[int]
) -> tuple[str, list[float]]:
    try:
        return row[smiles], [float(row[k]) if row[k] else float("nan") for k in targets]
    except (IndexError, ValueError) as error:
        raise DataError(
            f"{where} has no SMILES in column {smiles} with numbers in columns "
            f"{list(targets)} ({error}). Fetch the file again, or correct the card."
        ) from error


def _molecule(text: str, lenient: bool) -> Any:
    """RDKit's molecule; None if it has no atom, or is refused."""
    from rdkit import Chem  # pyright: ignore[reportMissingImports]

    found = Chem.MolFromSmiles(text)
    if found is None and lenient:
        found = Chem.MolFromSmiles(text, sanitize=False)
        if found is not None:
            found.UpdatePropertyCache(strict=False)
            checks = Chem.SANITIZE_ALL ^ Chem.SANITIZE_PROPERTIES
            if Chem.SanitizeMol(found, checks, catchErrors=True) != Chem.SANITIZE_NONE:
                found = None
    return found if found is not None and found.GetNumAtoms() else None


def _maps() -> dict[str, dict[Any, int]]:
    """From RDKit's enumerations to the numbers that PyG gives their values."""
    from rdkit.Chem import rdchem  # pyright: ignore[reportMissingImports]
    from torch_geometric.utils.smiles import e_map, x_map

    enums: dict[str, tuple[Any, Sequence[str]]] = {
        "chirality": (rdchem.ChiralType, x_map["chirality"]),
        "hybridization": (rdchem.HybridizationType, x_map["hybridization"]),
        "bond_type": (rdchem.BondType, e_map["bond_type"]),
        "stereo": (rdchem.BondStereo, e_map["stereo"]),
    }
    return {
        key: {enum.names[text]: number for number, text in enumerate(texts) if text in enum.names}
        for key, (enum, texts) in enums.items()
    }


def _append(
    molecule: Any,
    maps: Mapping[str, Mapping[Any, int]],
    start: int,
    atoms: list[tuple[int, ...]],
    bonds: list[tuple[int, ...]],
) -> None:
    """Add the rows of a molecule's atoms, and of its bonds in both directions."""
    chirality, hybridization = maps["chirality"], maps["hybridization"]
    for atom in molecule.GetAtoms():
        atoms.append(
            (
                atom.GetAtomicNum(),
                chirality[atom.GetChiralTag()],
                atom.GetTotalDegree(),
                # PyG counts charges from -5
                atom.GetFormalCharge() + 5,
                atom.GetTotalNumHs(),
                atom.GetNumRadicalElectrons(),
                hybridization[atom.GetHybridization()],
                int(atom.GetIsAromatic()),
                int(atom.IsInRing()),
            )
        )
    bond_type, stereo = maps["bond_type"], maps["stereo"]
    for bond in molecule.GetBonds():
        one, two = start + bond.GetBeginAtomIdx(), start + bond.GetEndAtomIdx()
        kind = (
            bond_type[bond.GetBondType()],
            stereo[bond.GetStereo()],
            int(bond.GetIsConjugated()),
        )
        bonds.append((one, two, *kind))
        bonds.append((two, one, *kind))
