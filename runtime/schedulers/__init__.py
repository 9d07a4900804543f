"""Schedulers: solvers of the reverse diffusion in numpy, the same to rounding as diffusers'.

`from_config` makes one from a diffusers scheduler_config.json; `names` lists what a user may type;
`unknown` what of such a file no solver knows; `spaced` spaces its timesteps otherwise.
"""

from .catalog import from_config, names, spaced, unknown
from .scheduler import Scheduler

__all__ = ["Scheduler", "from_config", "names", "spaced", "unknown"]
