"""A queue carried by hand: what `wasl export` writes onto a stick, and what the stick brings home.

May import: sync; of the node: config. Nothing is trimmed here: a receipt that came home is verified like one from the link.
"""
