"""Signatures that sources bring, verified: `check.py` asks, `worker.py` is the process that answers, the others each know one kind.

May import: hl7; of the node: no room. Only the worker holds lxml and signxml; it opens no socket, and a document it dies of is a verdict, never an end of the
node.
"""
