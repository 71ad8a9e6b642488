"""HL7 v2 messages to FHIR R4 resources and back: bytes in, values out, by tables that lie beside the code.

May import: hl7, native and the standard library. Must never import: node, gateway, sync, sockets, clocks, threads; the
tables are read once, at import, as code is.
"""
