"""The learning rate of every step, by diffusers' get_scheduler as its training scripts drive it: the rate
that the optimizer has when it makes step 0, 1, ..., and beyond the last one.

golden/data/learning_rate.safetensors: <kind>/<warmup>_<steps> [steps + 5], float64, for a base rate of
1e-4. "constant" is diffusers' constant_with_warmup."""

import torch
from diffusers.optimization import get_scheduler

from common import Golden

BASE = 1e-4


def rates(kind, warmup, steps):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=BASE)
    scheduler = get_scheduler(
        {"constant": "constant_with_warmup"}.get(kind, kind),
        optimizer=optimizer,
        num_warmup_steps=warmup,
        num_training_steps=steps,
    )
    seen = []
    for _ in range(steps + 5):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return torch.tensor(seen, dtype=torch.float64)


if __name__ == "__main__":
    g = Golden("learning_rate")
    for kind in ["constant", "linear", "cosine"]:
        for warmup, steps in [(0, 1), (0, 10), (1, 10), (4, 10), (9, 10), (10, 10), (12, 10), (3, 1)]:
            g.truth(f"{kind}/{warmup}_{steps}", rates(kind, warmup, steps), 0)
    g.save()
