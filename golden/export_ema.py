"""diffusers' EMAModel beside parameters that move.

golden/data/ema.safetensors: <case>/parameters [steps + 1, n], the first row as they begin, and
<case>/averages [steps, n] after each step; <case>/decay [steps], what EMAModel used. Cases are named by
their decay."""

import torch
from diffusers.training_utils import EMAModel

from common import Golden, draw, generator

STEPS, N = 40, 5


def case(golden, decay):
    name = f"{decay:g}/"

    def run(seed, dtype):
        walk = draw(generator(golden.name, name, seed), STEPS + 1, N).cumsum(0).float().double()
        parameter = torch.nn.Parameter(walk[0].to(dtype).clone())
        ema = EMAModel([parameter], decay=decay)
        averages, decays = [], []
        for row in walk[1:]:
            parameter.data.copy_(row.to(dtype))
            ema.step([parameter])
            averages.append(ema.shadow_params[0].clone())
            decays.append(ema.cur_decay_value)
        outputs = {"averages": torch.stack(averages), "decay": torch.tensor(decays, dtype=dtype)}
        return {"parameters": walk}, outputs

    golden.case(name, run)


if __name__ == "__main__":
    g = Golden("ema")
    for decay in [0.9999, 0.5, 0.0, 1.0]:
        case(g, decay)
    g.save()
