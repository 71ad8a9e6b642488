"""The workshop: simulators, the demo's supervisor and the PKI tool. They start node and gateway as processes.

May import: node, hl7, sync. Never gateway: what runs is reached through sockets. Stays out of the image.
"""
