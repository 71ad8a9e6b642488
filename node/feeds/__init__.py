"""Feeds: one kind of source, one plug, one file. Each opens and waits, hands what it understands to `node.intake`, and answers after the commit.

May import: hl7, sync; of the node: config, devices, lines, orders, quality, signatures. Never stores anything by itself, and knows nothing of the ways out.
"""
