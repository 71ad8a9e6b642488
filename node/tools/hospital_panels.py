"""Laboratory panels of the synthetic hospital: LOINC codes, UCUM units, adult reference ranges, critical limits."""

from dataclasses import dataclass

Range = tuple[float | None, float | None]  # lowest and highest normal value; None is open


@dataclass(frozen=True, slots=True, kw_only=True)
class Analyte:
    """One quantity a laboratory reports. `spread` is (mean, standard deviation) in the healthy.

    derived: the value is computed from others of its panel (see hospital_laboratory), never drawn.
    """

    loinc: str
    name: str
    unit: str
    decimals: int
    men: Range
    women: Range
    critical: Range
    spread: tuple[float, float]
    derived: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """What is ordered together: the order's LOINC code, the section of table 0074, the specimen of table 0487."""

    loinc: str
    name: str
    section: str
    specimen: str
    specimen_name: str
    analytes: tuple[Analyte, ...]


def _analyte(
    loinc: str,
    name: str,
    unit: str,
    decimals: int,
    men: Range,
    *,
    women: Range | None = None,
    critical: Range = (None, None),
    spread: tuple[float, float] | None = None,
    derived: bool = False,
) -> Analyte:
    """One row of the tables below. Without `spread`, a closed range is taken as mean ± 2.2 standard deviations."""
    if spread is None:
        low, high = men
        # A range with an open end says nothing about the mean: such a row states its spread, or is derived.
        spread = (0.0, 0.0) if low is None or high is None else ((low + high) / 2, (high - low) / 4.4)
    return Analyte(
        loinc=loinc,
        name=name,
        unit=unit,
        decimals=decimals,
        men=men,
        women=women or men,
        critical=critical,
        spread=spread,
        derived=derived,
    )


CBC = Panel(
    loinc="58410-2",
    name="CBC panel - Blood by Automated count",
    section="HM",
    specimen="BLDV",
    specimen_name="Blood venous",
    analytes=(
        _analyte("6690-2", "Leukocytes", "10*9/L", 1, (4.0, 11.0), critical=(2.0, 30.0)),
        _analyte("789-8", "Erythrocytes", "10*12/L", 2, (4.3, 5.9), women=(3.8, 5.2), derived=True),
        _analyte("718-7", "Hemoglobin", "g/L", 0, (130, 170), women=(120, 150), critical=(70, 200), spread=(142, 11)),
        _analyte("4544-3", "Hematocrit", "%", 1, (39.0, 51.0), women=(35.0, 46.0), derived=True),
        _analyte("787-2", "MCV", "fL", 1, (80.0, 99.0)),
        _analyte("785-6", "MCH", "pg", 1, (26.5, 33.5), derived=True),
        _analyte("786-4", "MCHC", "g/L", 0, (320, 360)),
        _analyte("788-0", "Erythrocyte distribution width", "%", 1, (11.5, 14.5)),
        _analyte("777-3", "Platelets", "10*9/L", 0, (150, 400), critical=(30, 1000)),
    ),
)
RENAL = Panel(
    loinc="24362-6",
    name="Renal function 2000 panel - Serum or Plasma",
    section="CH",
    specimen="SER",
    specimen_name="Serum",
    analytes=(
        _analyte("22664-7", "Urea", "mmol/L", 1, (2.5, 7.8), critical=(None, 35.0)),
        _analyte(
            "14682-9", "Creatinine", "umol/L", 0, (62, 106), women=(44, 80), critical=(None, 600), spread=(78, 13)
        ),
        _analyte("98979-8", "eGFR by CKD-EPI 2021", "mL/min/{1.73_m2}", 0, (60, None), derived=True),
        _analyte("14933-6", "Urate", "umol/L", 0, (200, 430), women=(140, 360), spread=(290, 55)),
    ),
)
LIVER = Panel(
    loinc="24325-3",
    name="Hepatic function 2000 panel - Serum or Plasma",
    section="CH",
    specimen="SER",
    specimen_name="Serum",
    analytes=(
        _analyte("1742-6", "Alanine aminotransferase", "U/L", 0, (None, 50), women=(None, 35), spread=(24, 8)),
        _analyte("1920-8", "Aspartate aminotransferase", "U/L", 0, (None, 40), women=(None, 32), spread=(22, 6)),
        _analyte("6768-6", "Alkaline phosphatase", "U/L", 0, (40, 129), women=(35, 104)),
        _analyte("2324-2", "Gamma glutamyl transferase", "U/L", 0, (None, 71), women=(None, 42), spread=(25, 9)),
        _analyte("14631-6", "Bilirubin.total", "umol/L", 1, (None, 21.0), critical=(None, 250.0), spread=(10.0, 4.0)),
        _analyte("1751-7", "Albumin", "g/L", 0, (35, 52)),
        _analyte("2885-2", "Protein", "g/L", 0, (64, 83)),
    ),
)
LIPIDS = Panel(
    loinc="24331-1",
    name="Lipid 1996 panel - Serum or Plasma",
    section="CH",
    specimen="SER",
    specimen_name="Serum",
    analytes=(
        _analyte("14647-2", "Cholesterol", "mmol/L", 2, (None, 5.2), spread=(4.7, 0.6)),
        _analyte("14927-8", "Triglyceride", "mmol/L", 2, (None, 1.7), critical=(None, 11.3), spread=(1.2, 0.35)),
        _analyte("14646-4", "Cholesterol in HDL", "mmol/L", 2, (1.0, None), women=(1.2, None), spread=(1.4, 0.2)),
        _analyte("39469-2", "Cholesterol in LDL by calculation", "mmol/L", 2, (None, 3.4), derived=True),
    ),
)
HBA1C = Panel(
    loinc="4548-4",  # LOINC has this code for order and result; the order-only 55454-3 is deprecated
    name="Hemoglobin A1c/Hemoglobin.total in Blood",
    section="CH",
    specimen="BLDV",
    specimen_name="Blood venous",
    analytes=(
        _analyte("4548-4", "Hemoglobin A1c/Hemoglobin.total in Blood", "%", 1, (4.0, 5.6), spread=(5.2, 0.3)),
        _analyte("59261-8", "Hemoglobin A1c (IFCC)", "mmol/mol", 0, (20, 38), derived=True),
    ),
)
ELECTROLYTES = Panel(
    loinc="24326-1",
    name="Electrolytes 1998 panel - Serum or Plasma",
    section="CH",
    specimen="SER",
    specimen_name="Serum",
    analytes=(
        _analyte("2951-2", "Sodium", "mmol/L", 0, (136, 145), critical=(120, 160)),
        _analyte("2823-3", "Potassium", "mmol/L", 1, (3.5, 5.1), critical=(2.8, 6.2)),
        _analyte("2075-0", "Chloride", "mmol/L", 0, (98, 107), critical=(80, 120)),
        _analyte("2028-9", "Carbon dioxide, total", "mmol/L", 0, (22, 29), critical=(10, 40)),
    ),
)
PANELS: tuple[Panel, ...] = (CBC, RENAL, LIVER, LIPIDS, HBA1C, ELECTROLYTES)
