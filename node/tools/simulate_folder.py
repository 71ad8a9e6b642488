"""A program that drops files, as PCR readers and temperature loggers do: whole, slowly, or with a pause in the middle."""

import csv
import io
import os
import random
import time
from pathlib import Path
from typing import Final

import click

FAULTS: Final = ("slow", "late", "unfinished", "long")
PAUSE_S: Final = 0.5  # between the pieces of a slow file: less than a feed waits, so it is one file
LATE_S: Final = 6.0  # longer than a feed waits: it takes the first half, and then the whole
LONG_BYTES: Final = 25 * 1024 * 1024
TARGETS: Final = ("SARS2", "HIV1", "HBV", "MTB")
COMMENTS: Final = ("", "", "pipetted twice", "عينة تجريبية")


def table(dice: random.Random, number: int) -> bytes:
    """A plate of results as a qPCR instrument exports it (`qpcr-csv`), with invented samples, an Arabic comment and a control."""
    text = io.StringIO()
    rows = csv.writer(text)
    rows.writerow(("Well", "Sample Name", "Target Name", "CT", "Comments"))
    for well in range(8):
        cycles = dice.choice(("Undetermined", f"{dice.uniform(14, 39):.2f}"))
        sample = "PTC" if well == 0 else f"TEST-{number:05d}-{well}"
        rows.writerow((f"A{well + 1}", sample, dice.choice(TARGETS), cycles, dice.choice(COMMENTS)))
    return text.getvalue().encode()


def drop(folder: Path, number: int, dice: random.Random, fault: str) -> Path:
    """One file, written as the fault says; where it ends up."""
    path = folder / f"run-{number:05d}.csv"
    data = table(dice, number)
    if fault == "unfinished":  # a program that was ended: its temporary file stays
        path = path.with_suffix(".csv.part")
        path.write_bytes(data[: len(data) // 2])
    elif fault == "long":
        path.write_bytes(data + bytes(LONG_BYTES))
    elif fault in {"slow", "late"}:
        with path.open("wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            time.sleep(PAUSE_S if fault == "slow" else LATE_S)
            file.write(data[len(data) // 2 :])
    else:  # as well-made programs do: under another name, and renamed when it is whole
        hidden = folder / f".{path.name}"
        with hidden.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        hidden.rename(path)
    return path


@click.command("folder")
@click.option("--to", "folder", required=True, type=click.Path(path_type=Path, file_okay=False, exists=True), help="The feed's folder.")  # fmt: skip
@click.option("--each", "each_s", type=float, default=10.0, show_default=True, help="Seconds between two files.")
@click.option("--count", type=int, default=None, help="Stop after so many; without it, never.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--fault", "faults", type=click.Choice(FAULTS), multiple=True, help="May be given several times; one file in three has one of them.")  # fmt: skip
def folder_command(folder: Path, each_s: float, count: int | None, seed: int, faults: tuple[str, ...]) -> None:
    """A program that drops result files into a folder."""
    dice, number = random.Random(seed), 0
    while count is None or number < count:
        fault = dice.choice(faults) if faults and dice.random() < 1 / 3 else ""
        path = drop(folder, number, dice, fault)
        click.echo(f"{path.name} {fault or 'whole'}")
        number += 1
        if count is None or number < count:
            time.sleep(each_s)
