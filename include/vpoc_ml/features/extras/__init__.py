"""Optional feature families, off by default: ``features.extras`` names those a run adds to the registry's.

They obey the same rules: causal, finite memory, the same bits whatever a file or chunk begins with. Whatever is
fitted is fitted at the start of a session, on completed sessions only. Their modules are imported when chosen.
"""
