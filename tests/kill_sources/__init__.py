"""Sources for the kill loop of devices, a file for each kind: what each sends, what counts as its acknowledgement, and what must be at the gateway.

May import node's simulators and the rigs of these tests; opens sockets, ports and files, and never starts or kills a node.
"""
