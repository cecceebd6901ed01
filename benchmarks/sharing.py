"""How long processes that share a synthesis are idle, simulated: by batches, and by whole shards.

    python -m benchmarks.sharing            prints one Markdown table

A plan of 5 or 50 shards, with strengths of 0.5, 0.7 and 0.9 drawn as `plan` draws them, is shared
as `synthesize` shares it. A batch takes as long as its steps, times a random factor: no two batches
take equally long on a real machine. A process is idle from its last image on until the last of all
is there.
"""

import numpy as np
import pandas as pd

from stages.shared.diffusion.sampling import reverse_steps
from stages.shared.running.processes import deal
from stages.shared.tables import SHARD_ROWS
from stages.synthesize import lacking_batches

STEPS = 25
BATCH = 32
STRENGTHS = (0.5, 0.7, 0.9)
SHARDS = (5, 50)
PROCESSES = (1, 2, 4, 8)
NOISE = 0.05  # standard deviation of a batch's time, as a share of it
ROUNDS = 20


def draw_costs(shards: int, rng: np.random.Generator) -> list[int]:
    """The steps of a plan's batches, in the order in which `synthesize` takes them."""
    plan = pd.DataFrame({"strength": rng.choice(STRENGTHS, size=shards * SHARD_ROWS)})
    batches = lacking_batches(plan, np.ones(len(plan), bool), BATCH, single=False)
    return [reverse_steps(STEPS, plan["strength"].iloc[batch[0]]) for batch in batches]


def idle(loads: np.ndarray) -> float:
    """The share of all processes' time that they wait; loads: seconds of each."""
    return 1 - float(loads.mean() / loads.max())


def by_batches(shards: int, count: int, rng: np.random.Generator) -> float:
    """Idle share where batches are dealt by their steps."""
    costs = draw_costs(shards, rng)
    parts = deal(costs, costs, count)

    noisy = [sum(cost * rng.normal(1, NOISE) for cost in part) for part in parts]
    return idle(np.array(noisy))


def by_shards(shards: int, count: int, rng: np.random.Generator) -> float:
    """Idle share where each process takes whole shards in turn."""
    loads = np.zeros(count)
    for shard in range(shards):
        costs = draw_costs(1, rng)
        loads[shard % count] += sum(cost * rng.normal(1, NOISE) for cost in costs)

    return idle(loads)


def main() -> None:
    print("| shards | processes | idle, by batches | idle, by shards |")
    print("|---|---|---|---|")

    for shards in SHARDS:
        for count in PROCESSES:
            rng = np.random.default_rng(0)
            batches = np.mean([by_batches(shards, count, rng) for _ in range(ROUNDS)])
            whole = np.mean([by_shards(shards, count, rng) for _ in range(ROUNDS)])
            print(f"| {shards} | {count} | {100 * batches:.1f} % | {100 * whole:.1f} % |")


if __name__ == "__main__":
    main()
