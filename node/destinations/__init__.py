"""The site's own systems: what carries committed records from the outbox to a laboratory, a hospital system or a folder, link or no link.

May import: hl7, sync; of the node: config, orders. Must never write the outbox but through the writer, nor hold a lock while it waits.
"""
