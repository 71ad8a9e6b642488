"""The workshop: simulators, the demo's supervisor and the PKI tool. They start node and gateway as processes.

May import: hl7, sync; of the node: web. Never gateway: what runs is reached through sockets. Stays out of the image.
"""
