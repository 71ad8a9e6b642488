"""What the campaign of tests/fuzz_devices.py is made of: sessions to mutate, mutations, and what must hold of every receive machine."""
