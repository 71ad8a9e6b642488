"""Orders for the instruments that ask: a cache of its own, made of what the outbox holds, and read behind the commits.

May import: hl7, sync, `node.config`, and the desks of ASTM and LAW feeds. It never writes the outbox: lost, it is made again.
"""
