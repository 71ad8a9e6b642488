"""Unit texts of devices to UCUM: by exact match or not at all. Numbers are never converted.

A text stands here only where it has one meaning in results. What a program that parses units makes of such a text is no guide:
`K/uL` on a haematology report is thousands, and kelvin to a parser.
"""

from collections.abc import Mapping
from typing import Final

UCUM: Final = "http://unitsofmeasure.org"

_TABLE: Final = """
%               % percent PERCENT MDC_DIM_PERCENT
10*3/uL         10*3/uL 10^3/uL 10^3/µL 10^3/μL 10*3/µL 10E3/uL x10^3/uL X10^3/uL x10(3)/uL 10³/uL
10*3/uL         10³/µL K/uL K/µL K/UL k/uL 10e3/µL 10^3/mm3 10^3/mm³ 10*3/mm3 x10^3/µL
10*6/uL         10*6/uL 10^6/uL 10^6/µL 10^6/μL 10*6/µL 10E6/uL x10^6/uL X10^6/uL x10(6)/uL
10*6/uL         10⁶/uL 10⁶/µL M/uL M/µL M/UL 10e6/µL 10^6/mm3 10^6/mm³ 10*6/mm3 x10^6/µL
10*9/L          10*9/L 10^9/L 10E9/L x10^9/L X10^9/L 10⁹/L x10⁹/L x10*9/L x10(9)/L 10e9/L
10*12/L         10*12/L 10^12/L 10E12/L x10^12/L X10^12/L 10¹²/L x10*12/L x10(12)/L 10e12/L
g/dL            g/dL g/dl G/DL gm/dL g%
g/L             g/L g/l
fL              fL fl FL um3 um^3 µm3 µm³
pg              pg PG
mg/dL           mg/dL mg/dl MG/DL mg%
mg/L            mg/L mg/l MG/L
ug/dL           ug/dL µg/dL μg/dL ug/dl mcg/dL
ug/L            ug/L µg/L μg/L ug/l mcg/L
ug/mL           ug/mL µg/mL μg/mL ug/ml mcg/mL
ng/mL           ng/mL ng/ml NG/ML
ng/L            ng/L ng/l
ng/dL           ng/dL ng/dl
pg/mL           pg/mL pg/ml PG/ML
mmol/L          mmol/L mmol/l MMOL/L mM
umol/L          umol/L µmol/L μmol/L umol/l µmol/l UMOL/L
nmol/L          nmol/L nmol/l
pmol/L          pmol/L pmol/l
meq/L           mEq/L meq/L MEQ/L
U/L             U/L u/l U/l
[IU]/L          IU/L IU/l [IU]/L
[IU]/mL         IU/mL IU/ml [IU]/mL
m[IU]/L         mIU/L m[IU]/L
m[IU]/mL        mIU/mL mIU/ml m[IU]/mL
u[IU]/mL        uIU/mL µIU/mL μIU/mL u[IU]/mL uIU/ml
mU/L            mU/L
{copies}/mL     copies/mL copies/ml cp/mL Copies/mL
[arb'U]/mL      AU/mL
s               s sec seconds MDC_DIM_SEC
min             min MDC_DIM_MIN
ms              ms msec MDC_DIM_MILLI_SEC
mm/h            mm/h mm/hr mm/hour
mm              mm
{INR}           INR
/uL             /uL /µL /μL cells/uL cells/µL /ul
/[HPF]          /HPF /hpf
/min            /min bpm BPM beats/min MDC_DIM_BEAT_PER_MIN MDC_DIM_RESP_PER_MIN breaths/min
mm[Hg]          mmHg mm[Hg] MMHG mm(Hg) MDC_DIM_MMHG
kPa             kPa KPA MDC_DIM_KILO_PASCAL
Cel             Cel °C degC ºC ℃ MDC_DIM_DEGC
[degF]          [degF] °F degF ºF MDC_DIM_FAHR
K               MDC_DIM_DEGK
kg              kg KG MDC_DIM_KILO_G
g               g MDC_DIM_G
cm              cm MDC_DIM_CENTI_M
L/min           L/min l/min LPM MDC_DIM_L_PER_MIN
mL              mL ml MDC_DIM_MILLI_L
V               V volt
mV              mV
bar             bar
Pa              Pa
Hz              Hz
kW              kW
[pH]            pH
mosm/kg         mOsm/kg mosm/kg
mL/min          mL/min ml/min
mL/min/{1.73_m2}  mL/min/1.73m2 mL/min/1.73m² mL/min/{1.73_m2}
"""

# Left out because they have two meanings: G/L (10*9/L, or g/L of a device that knows no small letters), T/L, K, M, rpm, COI, S/CO.


def _read() -> dict[str, str]:
    found: dict[str, str] = {}
    for line in _TABLE.strip().splitlines():
        code, *texts = line.split()
        for text in texts:
            if found.setdefault(text, code) != code:
                raise ValueError(f"{text} stands for {found[text]} and {code}")
    return found


TEXTS: Final = _read()


def ucum_of(text: str, system: str, own: Mapping[str, str]) -> str:
    """Return the UCUM code of a unit's text; "" where it is in no table. `own`: the profile's, which come first."""
    if system in {"UCUM", UCUM} and " " not in text:
        return text
    return own.get(text) or TEXTS.get(text) or ""
