"""The centre's machine: takes batches over mutual TLS, commits and cosigns them, serves consumers; sockets, clocks, threads, wiring.

May import: sync, hl7 (native only through them). Must never import: node, the stdlib's sqlite3; it judges envelope, order and signature, never content.
"""
