"""Records, logs, checkpoints, receipts and the two machines that move them: bytes in, values out.

May import: native. Never opens a socket, waits, starts a thread or reads the clock; only the store (outbox, tree) touches SQLite, through what it is handed.
"""
