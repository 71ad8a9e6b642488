"""The way to the gateway: a thread for each lane (`uplink.py` drives the pure sender), whose turn it is, which way out, and the calls.

May import: sync; of the node: config. It decides no order: what is sent next is `sync/sender.py`, and nothing it learns counts before the writer has stored
it.
"""
