"""The box in the clinic: listeners, threads, keys, configuration, page and command line; here things open, wait and read the clock.

Each room below says on its own door what of the node it may import; beside that, any but `web` may import what stands at this top, and only `cli` what builds,
shows or mends the whole box (WHOLE_BOX in tests/tree.py).

May import: hl7 and sync, and native only through them. Never imports gateway, and never acknowledges what is not committed and signed.
"""
