"""Data quality: counted as messages pass, and checked against HL7 message profiles in a process of its own.

May import: hl7; of the node: config. It looks at what is taken already, and never refuses or delays a message.
"""
