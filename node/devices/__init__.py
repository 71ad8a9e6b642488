"""Device profiles as a node finds them, and what a capture of a device becomes by one: `wasl devices test` before go-live.

May import: hl7, sync; of the node: no room. What bytes mean is known in `hl7/devices/`; here nothing is parsed, only found, read and shown.
"""
