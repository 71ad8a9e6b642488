"""What must hold of the installation itself before anything starts."""

import importlib.metadata

from node.errors import TwoOwners

PACKAGES = ("gateway", "hl7", "native", "node", "sync")
DISTRIBUTION = "wasl-node"


def check_owners() -> None:
    """Raise TwoOwners where another distribution owns one of our package names, as python-hl7 would."""
    owners = importlib.metadata.packages_distributions()
    for package in PACKAGES:
        others = set(owners.get(package, ())) - {DISTRIBUTION}
        if others:
            raise TwoOwners(f"{package} is also owned by {', '.join(sorted(others))}")
