"""Settings of hypothesis: few examples, the same each time, no deadline.

HYPOTHESIS_PROFILE=thorough tries new ones, a thousand a test.
"""

import os

from hypothesis import settings

settings.register_profile("quick", max_examples=30, derandomize=True, deadline=None, database=None)
settings.register_profile("thorough", max_examples=1000, deadline=None)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
