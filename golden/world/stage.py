"""What every training script of the small world shares: seeded steps that can be cut off and resumed.

A stage runs from step to step; step k draws all it needs from batch_random(seed, k), so that a run that
was killed and resumed sees what an undisturbed one does. state.pt is written every few minutes.
"""

import math
import os
import random
import sys
import time

import torch

torch.set_num_threads(1)  # small layers: two processes of one thread beat one of two


def batch_random(*key):
    return random.Random("/".join(map(str, key)))


def rate(step, steps, peak, warmup=200, floor=0.02):
    """Linear warmup, then a cosine down to floor * peak."""
    if step < warmup:
        return peak * (step + 1) / warmup
    x = min(1.0, (step - warmup) / max(1, steps - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * x)))


class Ema:
    """The parameters' moving average; its decay grows to `decay` with the steps."""

    def __init__(self, parameters, decay):
        self.parameters, self.decay = list(parameters), decay
        self.shadow = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step):
        d = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(self.shadow, self.parameters, 1 - d)

    @torch.no_grad()
    def apply(self):
        for p, s in zip(self.parameters, self.shadow):
            p.copy_(s)


class Stage:
    """Steps from where the last run stopped to `steps`, with a line of progress now and then; without save
    nothing is written: another process does."""

    def __init__(self, directory, steps, save, load, every=180.0):
        self.path, self.steps, self.save, self.every = directory / "state.pt", steps, save, every
        self.first = 0
        if self.path.exists():
            state = torch.load(self.path, weights_only=False)
            self.first = state["step"]
            load(state)

    def __iter__(self):
        begin = saved = told = time.time()
        for step in range(self.first, self.steps):
            self.shown = None
            yield step
            now = time.time()
            if self.save and (now - saved > self.every or step + 1 == self.steps):
                self.write(step + 1)
                saved = now
            if self.shown and (now - told > 15 or step + 1 == self.steps):
                pace = (now - begin) / (step + 1 - self.first)
                print(f"{step + 1}/{self.steps} {1e3 * pace:.0f} ms/step, "
                      f"{pace * (self.steps - step - 1) / 60:.0f} min left: {self.shown}", flush=True)
                told = now

    def write(self, step):
        torch.save({"step": step, **self.save()}, self.path.with_suffix(".tmp"))
        os.replace(self.path.with_suffix(".tmp"), self.path)


