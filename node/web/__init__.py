"""The technician's page: a process of its own that shows the node's status document. It may import nothing of ours; every
source is passed in as a function. It must never write to the outbox, answer a feed, or hold core up: core may be down, the
page still answers.
"""
