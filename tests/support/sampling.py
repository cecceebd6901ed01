"""The default of how images are sampled, for tests that change one thing."""

from typing import Any

from stages.shared.diffusion.sampling import LcmLora

PLAIN: dict[str, Any] = {
    "sampler": "dpm-solver++", "lcm_lora": LcmLora(id=None, revision=None), "guidance_stop": 1.0,
    "cache_interval": None,
}  # fmt: skip
