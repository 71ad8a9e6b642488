"""The beat at which feeds look at what came, where nobody waits for an answer within it."""

from typing import Final

# All feeds at once, at multiples of it: what sixteen printers and a broker bring within is one commit, and takes a fifth of the processor's time that
# some hundred commits take. To a person it is nothing, and the kernel keeps meanwhile what comes
REST_S: Final = 0.05
