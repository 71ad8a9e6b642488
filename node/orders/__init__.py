"""Orders for the instruments that ask: a cache of its own, made of what the outbox holds and read behind the commits, and a desk for each feed that asks it.

May import: hl7, sync; of the node: config. It never writes the outbox: lost, the cache is made again.
"""
