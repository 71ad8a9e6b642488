"""Documents of POCT1-A that look synthetic, and what an answer to them says."""

from hl7.devices.poct1a import read_message
from hl7.devices.xml_documents import Divider

MIB = 1024 * 1024


def document(kind, control_id="7", body=""):
    return f'<{kind}><HDR><HDR.control_id V="{control_id}"/><HDR.version_id V="POCT1"/></HDR>{body}</{kind}>'.encode()


HELLO = document("HEL.R01", "1", '<DEV><DEV.device_id V="SN-1"/></DEV>')
RESULT = document(
    "OBS.R01",
    "3",
    '<SVC><PT><PT.patient_id V="TEST-1"/><PT.name V="مريض تجريبي"/><OBS><OBS.value V="5.4" U="mmol/L"/></OBS></PT></SVC>',
)


def status(observations="1", events="0"):
    return document(
        "DST.R01", "2", f'<DST><DST.new_observations_qty V="{observations}"/><DST.new_events_qty V="{events}"/></DST>'
    )


def divided(data, octets_max=MIB):
    return Divider(octets_max).feed(data)


def kind_of(raw):
    (found,) = divided(raw)
    message = read_message(found.raw)
    told = {"ACK.R01": "ACK.type_cd"}.get(message.type)
    if told:
        return message.type[:3], message.values[told], message.values["ACK.ack_control_id"]
    return message.type[:3], raw.partition(b'_cd V="')[2].partition(b'"')[0].decode()
