"""The box in the clinic: listeners, threads, keys, configuration, page and command line; here things open, wait and read the clock.

May import: hl7 and sync, and native only through them. Never imports gateway, and never acknowledges what is not committed and signed.
"""
