"""The damage loop: one random damage in one file of an adapter must be refused by name, or change nothing."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from mome.adapter.saving.folder import CARD, AdapterError
from mome.files.sealed import CheckpointError
from mome.memory.loading import load_memory
from mome.replication.faults.ground import answers, copied

BLOCK = 64
Damage = Callable[[Path, Path, random.Random], None]


@dataclass
class Damages:
    """Outcomes of damages: refused by the name of a file, or loaded with the same answers (`harmless`)."""

    damages: int = 0
    refused: int = 0
    harmless: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        fine = f"refused by name {self.refused}, harmless (in {CARD}) {len(self.harmless)}"
        return f"{'damage':<10} {self.damages:>4} damages; {fine}; wrong {len(self.problems)}"


def damage_loop(adapter: Path, place: Path, damages: int, seed: int) -> Damages:
    """Damage copies of the whole `adapter` at `place`, every kind in every file in turn, at random places."""
    counts, draw = Damages(), random.Random(seed)
    expected = answers(load_memory(adapter))
    names = sorted(path.relative_to(adapter).as_posix() for path in adapter.rglob("*") if path.is_file())
    for number in range(damages):
        folder = copied(adapter, place)
        name = names[number % len(names)]
        kind, damage = list(KINDS.items())[number // len(names) % len(KINDS)]
        path, other = folder / name, folder / draw.choice([each for each in names if each != name])
        damage(path, other, draw)
        counts.damages += 1
        _judge(counts, f"{kind} {name}", folder, (path.name, other.name) if kind == "swap" else (path.name,), expected)
    return counts


def _judge(counts: Damages, what: str, folder: Path, names: tuple[str, ...], expected: list[str]) -> None:
    try:
        said = answers(load_memory(folder))
    except (AdapterError, CheckpointError) as error:
        if any(name in str(error) for name in names) and "\n" not in str(error):
            counts.refused += 1
        else:
            counts.problems.append(f"{what}: refused without its name: {error}")
    except Exception as error:  # a riddle for the user: the table says so, and the command fails
        counts.problems.append(f"{what}: {type(error).__name__}: {error}")
    else:
        if said == expected and names == (CARD,):
            counts.harmless.append(what)
        else:
            counts.problems.append(
                f"{what}: loaded, and {'nothing was noticed' if said == expected else 'answers wrong'}"
            )


def _flip(path: Path, _: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _truncate(path: Path, _: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(len(content))])


def _remove(path: Path, _: Path, draw: random.Random) -> None:
    path.unlink()


def _append(path: Path, _: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randrange(1, BLOCK)))


def _swap(path: Path, other: Path, draw: random.Random) -> None:
    one, two = path.read_bytes(), other.read_bytes()
    path.write_bytes(two)
    other.write_bytes(one)


def _zero(path: Path, _: Path, draw: random.Random) -> None:
    """A block of zeros where there were others."""
    content = bytearray(path.read_bytes())
    start = draw.choice([place for place, value in enumerate(content) if value])
    end = min(len(content), start + BLOCK)
    content[start:end] = bytes(end - start)
    path.write_bytes(content)


KINDS: dict[str, Damage] = {
    "flip a bit in": _flip,
    "truncate": _truncate,
    "remove": _remove,
    "append to": _append,
    "swap": _swap,
    "zero a block in": _zero,
}
