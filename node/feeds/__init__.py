"""Feeds: one kind of source, one plug, one file. Each opens and waits, hands what it understands to `node.intake`, and answers after the commit.

May import: hl7, sync, node.intake and what stands beside it. Never stores anything by itself, and never imports gateway.
"""
