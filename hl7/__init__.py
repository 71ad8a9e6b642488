"""Clinical languages: bytes to values and back. Nothing here opens, waits, stores, logs or knows the time.

May import: native and the standard library. Must never import: node, gateway, sync, sockets, clocks, threads, files.
"""
