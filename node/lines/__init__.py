"""Serial lines and what went over any line: a port and its thread, how its settings are found by listening, captures, and the trace behind the line monitor.

May import: hl7; of the node: config. Knows no protocol and never stores: it hands bytes to its owner, and takes bytes from it.
"""
