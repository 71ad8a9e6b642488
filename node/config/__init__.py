"""The node's configuration: TOML into frozen values, a file for each table, the whole in `config.py`.

May import: hl7, sync; of the node: devices (where profiles lie). What is not understood is refused with file, line and key; it never opens a socket, and
what it names need not exist yet.
"""
