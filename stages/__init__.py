"""The pipeline's stages, one module each."""

import os
import time

# when this process began to load the code, ns (running/inputs.py)
LOADED_AT = time.time_ns()

# Threads that wait for one another let go of the core soon: a tenth slower alone, but not many
# times beside other work. OpenMP reads this when torch is loaded, which is after every stage has
# imported this package.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")
