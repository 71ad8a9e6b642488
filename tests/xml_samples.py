"""Synthetic documents of the other languages: CDA, HL7 v3, X12, and XML that means harm. The people in them are invented and look it."""

CDA = """<?xml version="1.0" encoding="UTF-8"?>
<ClinicalDocument xmlns="urn:hl7-org:v3" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
 <realmCode code="BH"/><typeId root="2.16.840.1.113883.1.3" extension="POCD_HD000040"/>
 <templateId root="2.16.840.1.113883.10.20.22.1.1"/><templateId root="2.16.840.1.113883.10.20.22.1.2"/>
 <id root="2.16.840.1.113883.19.5.99999.1" extension="TEST-DOC-1"/><code code="34133-9" codeSystem="2.16.840.1.113883.6.1"/>
 <title>ملخص تجريبي</title><effectiveTime value="20300101080000+0300"/>
 <recordTarget><patientRole><id root="2.16.840.1.113883.19.5" extension="900101001"/>
  <patient><name><given>مريض</given><family>تجريبي</family></name></patient></patientRole></recordTarget>
 <component><structuredBody/></component>
</ClinicalDocument>
""".encode()

V3 = """<?xml version="1.0" encoding="UTF-8"?>
<PRPA_IN201301UV02 xmlns="urn:hl7-org:v3" ITSVersion="XML_1.0">
 <id root="22a0f9e0-4454-11dc-a6be-3603d6866807" extension="TEST-{number}"/><creationTime value="20300101080000"/>
 <interactionId root="2.16.840.1.113883.1.6" extension="PRPA_IN201301UV02"/>
 <processingCode code="{processing}"/><processingModeCode code="T"/><acceptAckCode code="{accept}"/>
 <receiver typeCode="RCV"><device classCode="DEV" determinerCode="INSTANCE"><id root="1.2.840.114350.1.13.999.234"/></device></receiver>
 <sender typeCode="SND"><device classCode="DEV" determinerCode="INSTANCE"><id root="1.2.840.114350.1.13.999.567" extension="A&amp;B"/></device></sender>
 <controlActProcess classCode="CACT" moodCode="EVN"><subject><name>مريض تجريبي</name></subject></controlActProcess>
</PRPA_IN201301UV02>
"""

X12 = (
    "ISA*00*          *00*          *ZZ*CLINIC7        *ZZ*HUB            *300101*0800*^*00501*{number:09d}*{ack}*{usage}*:~\n"
    "GS*HC*CLINIC7*HUB*20300101*0800*1*X*005010X222A1~\nST*837*0001*005010X222A1~\nBHT*0019*00*TEST*20300101*0800*CH~\n"
    "SE*3*0001~\nGE*1*1~\nIEA*1*{end:09d}~\n"
)

EXTERNAL = b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><ClinicalDocument xmlns="urn:hl7-org:v3">&x;</ClinicalDocument>'
PARAMETER = b'<!DOCTYPE a SYSTEM "http://127.0.0.1:9/evil.dtd"><ClinicalDocument xmlns="urn:hl7-org:v3"/>'
LAUGHS = (
    b'<!DOCTYPE a [<!ENTITY a0 "ha">'
    + b"".join(b'<!ENTITY a%d "%b">' % (n, b"&a%d;" % (n - 1) * 10) for n in range(1, 12))
    + b']><ClinicalDocument xmlns="urn:hl7-org:v3">&a11;</ClinicalDocument>'
)
HARMFUL = (EXTERNAL, PARAMETER, LAUGHS)


def v3(number: int = 1, *, accept: str = "AL", processing: str = "P") -> bytes:
    """A message of HL7 v3."""
    return V3.format(number=number, accept=accept, processing=processing).encode()


def x12(number: int = 7, *, ack: int = 1, usage: str = "P", end: int | None = None) -> bytes:
    """An X12 interchange."""
    return X12.format(number=number, ack=ack, usage=usage, end=number if end is None else end).encode()
