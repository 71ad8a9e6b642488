"""A gateway of bedside monitors that reports vital signs over MLLP, as IHE PCD-01 writes them (PCD TF-2, 3.1)."""

import random
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final, NamedTuple

import click

from node.tools.mllp_client import MllpClient, NoReplyError, parse_address

FAULTS: Final = ("no-number", "unknown-unit", "spike")
ATTEMPTS_MAX: Final = 5
_PROFILE: Final = "IHE_PCD_001^IHE PCD^1.3.6.1.4.1.19376.1.6.1.1.1^ISO"
_PEOPLE: Final = (("TEST-400001", "تجريبية^سلمى"), ("TEST-400002", "Test^Khalid"), ("TEST-400003", "تجريبي^يوسف"))


class Vital(NamedTuple):
    """One measured quantity: MDC code and name, containment, unit's MDC code and name, and where its values lie."""

    code: str
    name: str
    place: str
    unit: str
    unit_name: str
    mean: float
    spread: float
    decimals: int


# ISO/IEEE 11073-10101; containment is MDS.VMD.CHAN.METRIC as PCD-01 counts it
VITALS: Final = (
    Vital("147842", "MDC_ECG_HEART_RATE", "1.1.1.1", "264864", "MDC_DIM_BEAT_PER_MIN", 78, 9, 0),
    Vital("150456", "MDC_PULS_OXIM_SAT_O2", "1.2.1.1", "262688", "MDC_DIM_PERCENT", 97, 1.2, 0),
    Vital("149530", "MDC_PULS_OXIM_PULS_RATE", "1.2.1.2", "264864", "MDC_DIM_BEAT_PER_MIN", 78, 9, 0),
    Vital("150021", "MDC_PRESS_BLD_NONINV_SYS", "1.3.1.1", "266016", "MDC_DIM_MMHG", 122, 11, 0),
    Vital("150022", "MDC_PRESS_BLD_NONINV_DIA", "1.3.1.2", "266016", "MDC_DIM_MMHG", 78, 8, 0),
    Vital("150023", "MDC_PRESS_BLD_NONINV_MEAN", "1.3.1.3", "266016", "MDC_DIM_MMHG", 93, 8, 0),
    Vital("151562", "MDC_RESP_RATE", "1.4.1.1", "264928", "MDC_DIM_RESP_PER_MIN", 15, 3, 0),
    Vital("150364", "MDC_TEMP_BODY", "1.5.1.1", "268192", "MDC_DIM_DEGC", 36.8, 0.4, 1),
)


def report(number: int, *, bed: int, now: datetime, dice: random.Random, fault: str = "", run: int = 0) -> bytes:
    """One unsolicited report of a bed (ORU^R01^ORU_R01, HL7 2.6): accept acknowledgement always, application never."""
    stamp = now.strftime("%Y%m%d%H%M%S+0000")
    identity, name = _PEOPLE[bed % len(_PEOPLE)]
    segments = [
        f"MSH|^~\\&|WASL_SIM^0012210000000001^EUI-64|WARD|WASL|HUB|{stamp}||ORU^R01^ORU_R01|PCD{run}-{number}|P|2.6|||AL|NE||UNICODE UTF-8|||{_PROFILE}",
        f"PID|||{identity}^^^TEST^PI||{name}",
        f"PV1||I|ICU^^BED-{bed}",
        f"OBR|1|PCD{run}-{number}^WASL_SIM|PCD{run}-{number}^WASL_SIM|182777000^monitoring of patient^SCT|||{stamp}",
        "OBX|1||69965^MDC_DEV_MON_PHYSIO_MULTI_PARAM_MDS^MDC|1.0.0.0|||||||X",
        *_observations(stamp, dice, fault),
    ]
    return "\r".join([*segments, ""]).encode()


def _observations(stamp: str, dice: random.Random, fault: str) -> Iterator[str]:
    struck = dice.randrange(len(VITALS)) if fault else -1
    for place, vital in enumerate(VITALS):
        value = f"{dice.gauss(vital.mean, vital.spread):.{vital.decimals}f}"
        unit = f"{vital.unit}^{vital.unit_name}^MDC"
        if place == struck:  # a probe that fell off, a vendor's own unit, an artefact
            value = {"no-number": "", "spike": "999"}.get(fault, value)
            unit = "0^VENDOR_UNITS^99SIM" if fault == "unknown-unit" else unit
        kind, status = ("", "X") if not value else ("NM", "R")
        yield f"OBX|{place + 2}|{kind}|{vital.code}^{vital.name}^MDC|{vital.place}|{value}|{unit}|||||{status}|||{stamp}"


@click.command("pcd01")
@click.option("--to", "address", required=True, help="host:port of an MLLP feed.")
@click.option("--each", "each_s", type=float, default=5.0, show_default=True, help="Seconds between two reports.")
@click.option("--beds", type=click.IntRange(min=1), default=3, show_default=True)
@click.option("--count", type=int, default=None, help="Stop after so many; without it, never.")
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--fault", "faults", type=click.Choice(FAULTS), multiple=True, help="May be given several times; one report in three has one.")  # fmt: skip
def pcd01_command(
    address: str, each_s: float, beds: int, count: int | None, seed: int, faults: tuple[str, ...]
) -> None:  # fmt: skip
    """A gateway of bedside monitors: heart rate, oxygen, pressure, breathing, temperature."""
    dice, run, number, codes = random.Random(seed), int(time.time()), 0, Counter[str]()
    with MllpClient(parse_address(address), attempts_max=None if count is None else ATTEMPTS_MAX) as client:
        while count is None or number < count:
            fault = dice.choice(faults) if faults and dice.random() < 1 / 3 else ""
            raw = report(number, bed=number % beds, now=datetime.now(UTC), dice=dice, fault=fault, run=run)
            try:
                codes[client.send(raw)] += 1
            except NoReplyError:
                codes["none"] += 1
            number += 1
            if count is None or number < count:
                time.sleep(each_s)
    click.echo(", ".join(f"{code} {each}" for code, each in sorted(codes.items())))
