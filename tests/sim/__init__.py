"""The deterministic simulator: production node and gateway under a seeded scheduler. Imports the rooms and tests.sim_realm, never a clock or socket."""
