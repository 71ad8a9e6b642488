"""How hypothesis runs here: no verdict depends on how busy the machine is, and a failure prints what brings it back."""

from hypothesis import HealthCheck, settings

settings.register_profile("wasl", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("wasl")
