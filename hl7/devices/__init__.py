"""What devices speak: ASTM, POCT1-A, polled registers, lines, telemetry; profiles of devices, and their results as FHIR. Bytes in, values out.

May import: hl7, native and the standard library. Must never import: node, gateway, sync, sockets, clocks, threads, files.
"""
