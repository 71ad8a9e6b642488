"""The laboratory of the synthetic hospital: an ordered panel and a person become values, ranges and flags."""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random

from node.tools.hospital_panels import Analyte, Panel, Range

ILL_SHARE = 0.3  # of the panels come from somebody ill in that organ, or the page would show no flag worth a look
ILL_SPREAD_TIMES = 2.6  # about four in ten values of such a panel leave their range
LOWEST_SHARE = 0.3  # of the mean: nothing in these panels goes lower in a living patient

_CREATININE_UMOL_PER_MG = 88.42  # umol/L in one mg/dL


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One reported quantity: value and range as they are printed, flag of table 0078 (N, L, H, LL, HH)."""

    analyte: Analyte
    value: str
    range: str
    flag: str


def measure(panel: Panel, *, female: bool, age_years: int, dice: Random) -> tuple[Result, ...]:
    """All results of a panel, in its order. What follows from other values is computed from them as printed."""
    widen = ILL_SPREAD_TIMES if dice.random() < ILL_SHARE else 1.0
    values = {a.loinc: _drawn(a, widen=widen, dice=dice) for a in panel.analytes if not a.derived}
    for analyte in panel.analytes:
        if analyte.derived:
            value = _derived(analyte.loinc, values, female=female, age_years=age_years)
            values[analyte.loinc] = round(value, analyte.decimals)
    return tuple(_result(a, values[a.loinc], female=female) for a in panel.analytes)


def _drawn(analyte: Analyte, *, widen: float, dice: Random) -> float:
    mean, deviation = analyte.spread
    return round(max(mean * LOWEST_SHARE, dice.gauss(mean, deviation * widen)), analyte.decimals)


def _derived(loinc: str, values: Mapping[str, float], *, female: bool, age_years: int) -> float:
    """Do the arithmetic that a reader of the report would check. KeyError: a derived row without a formula."""
    if loinc == "4544-3":  # haematocrit in % from haemoglobin and MCHC, both g/L
        return values["718-7"] / values["786-4"] * 100
    if loinc == "789-8":  # red cells = haematocrit / MCV
        return values["718-7"] / values["786-4"] * 1000 / values["787-2"]
    if loinc == "785-6":  # MCH = MCV x MCHC
        return values["787-2"] * values["786-4"] / 1000
    if loinc == "39469-2":  # Friedewald, mmol/L; not below what a laboratory would print
        return max(0.3, values["14647-2"] - values["14646-4"] - values["14927-8"] / 2.2)
    if loinc == "59261-8":  # IFCC master equation from the NGSP percentage
        return 10.93 * values["4548-4"] - 23.5
    if loinc == "98979-8":
        return _egfr(values["14682-9"], female=female, age_years=age_years)
    raise KeyError(loinc)


def _egfr(creatinine_umol_l: float, *, female: bool, age_years: int) -> float:
    """CKD-EPI 2021 from creatinine, mL/min/1.73 m²; adults only, as is the whole town."""
    knee, below = (0.7, -0.241) if female else (0.9, -0.302)
    relative = float(creatinine_umol_l / _CREATININE_UMOL_PER_MG / knee)
    rate = float(142 * min(relative, 1.0) ** below * max(relative, 1.0) ** -1.2 * 0.9938**age_years)
    return rate * 1.012 if female else rate


def _result(analyte: Analyte, value: float, *, female: bool) -> Result:
    normal = analyte.women if female else analyte.men
    return Result(
        analyte=analyte,
        value=f"{value:.{analyte.decimals}f}",
        range=_range_text(normal, analyte.decimals),
        flag=flag(value, normal, analyte.critical),
    )


def flag(value: float, normal: Range, critical: Range) -> str:
    """Table 0078: LL or HH beyond the critical limits, L or H beyond the normal ones, else N."""
    for (low, high), below, above in ((critical, "LL", "HH"), (normal, "L", "H")):
        if low is not None and value < low:
            return below
        if high is not None and value > high:
            return above
    return "N"


def _range_text(normal: Range, decimals: int) -> str:
    low, high = normal
    if low is None:
        return f"<={high:.{decimals}f}"
    return f">={low:.{decimals}f}" if high is None else f"{low:.{decimals}f}-{high:.{decimals}f}"
