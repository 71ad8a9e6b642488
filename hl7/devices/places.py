"""Where each language's standard puts a value; what a profile's [fields] says comes before these.

A place is a record and a field counted as its standard counts: "R-4" is a field's whole text, "R-3.4" one component.
"""

from collections.abc import Mapping
from typing import Final

Places = Mapping[str, tuple[str, ...]]

# LIS2-A2: 6 (H), 7 (P), 8 (O), 9 (R), 10 (C); fields count from the record's letter
ASTM: Final[Places] = {
    "sender": ("H-5.1",),
    "sent_at": ("H-14",),
    "patient_id": ("P-4", "P-3", "P-5"),
    "patient_name": ("P-6",),
    "birth_date": ("P-8",),
    "sex": ("P-9",),
    "sample": ("O-3.1", "O-4.1"),
    "panel": ("O-5.4",),
    "panel_text": ("O-5.5",),
    "specimen": ("O-16.1",),
    "collected_at": ("O-8",),
    "received_at": ("O-15",),
    "at": ("R-13", "R-12"),
    "report_status": ("O-26",),
    "requester": ("O-17",),
    "code": ("R-3.4", "R-3.1"),
    "code_text": ("R-3.2",),
    "value": ("R-4",),
    "unit": ("R-5",),
    "range": ("R-6",),
    "flags": ("R-7",),
    "status": ("R-9",),
    "operator": ("R-11.1",),
    "instrument": ("R-14",),
    "comment": ("C-4",),
}

# HL7 v2 chapters 3, 4, 7; IHE PaLM TF-2 (LAB-29) puts the sample into SPM-2, older ones into OBR-3 or OBR-2
HL7: Final[Places] = {
    "sender": ("MSH-3.1",),
    "serial_number": ("MSH-3.2",),
    "sent_at": ("MSH-7.1",),
    "patient_id": ("PID-3.1", "PID-2.1", "PID-4.1"),
    "patient_name": ("PID-5",),
    "birth_date": ("PID-7.1",),
    "sex": ("PID-8.1",),
    "sample": ("SPM-2.1", "SAC-3.1", "OBR-3.1", "OBR-2.1"),
    "order": ("OBR-2.1",),
    "panel": ("OBR-4.1",),
    "panel_text": ("OBR-4.2",),
    "panel_system": ("OBR-4.3",),
    "specimen": ("SPM-4.1", "OBR-15.1"),
    "collected_at": ("SPM-17.1", "OBR-7.1"),
    "received_at": ("OBR-14.1",),
    "report_status": ("OBR-25.1",),
    "requester": ("OBR-16",),
    "code": ("OBX-3.1",),
    "code_text": ("OBX-3.2",),
    "code_system": ("OBX-3.3",),
    "sub_id": ("OBX-4",),
    "value_type": ("OBX-2",),
    "value": ("OBX-5",),
    "unit": ("OBX-6",),
    "range": ("OBX-7",),
    "flags": ("OBX-8",),
    "status": ("OBX-11",),
    "at": ("OBX-14.1", "OBX-19.1"),
    "operator": ("OBX-16.1",),
    "instrument": ("OBX-18.1",),
    "comment": ("NTE-3",),
}

# What says in the same places that a sample is a patient's, so that nothing of it is left to list
ORDINARY: Final[Mapping[str, frozenset[str]]] = {
    "O-12": frozenset("NACP"), "H-12": frozenset("P"), "SPM-11": frozenset("P"), "MSH-11": frozenset("P"),
}  # fmt: skip

# What says that a sample is no patient's, in the standards' own words; a profile's [[quality]] rules come on top.
QUALITY: Final[Mapping[str, Mapping[str, frozenset[str]]]] = {
    "astm": {"O-12": frozenset("Q"), "H-12": frozenset("QTD")},  # LIS2-A2 8.4.12, 6.12
    "hl7": {"SPM-11": frozenset("QCBEOV"), "MSH-11": frozenset("QTD")},  # tables 0369 (P: patient) and 0103
}
