"""Settings of hypothesis for the tests of the pipelines."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Always the same examples: everybody can repeat a failure. No deadline: compiling kernels is slow.
settings.register_profile(
    "slipform",
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("slipform")
