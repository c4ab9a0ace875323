"""The code itself: its structure, tests that notice faults, licences, and generated pages."""
