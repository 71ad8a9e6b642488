"""`wasl`: the command line. Each command is thin: it reads the configuration, asks the room that knows, and prints.

May import: hl7, sync; of the node: any room, where a command needs it (`wasl verify` starts at once). Never decides or stores anything by itself, and
nothing imports it.
"""
