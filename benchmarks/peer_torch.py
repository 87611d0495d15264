"""The image models and a step of their training in PyTorch, for `peers`."""

import itertools
import math
from collections.abc import Callable

import torch
from torch import nn

from benchmarks.peers import BATCH_SIZE, EXAMPLES, LEARNING_RATE, THREADS, TOTAL_STEPS, WEIGHT_DECAY


class Rounding(nn.Module):
    """Bits, straight-through, centred for the decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.normalization = nn.BatchNorm1d(64, eps=1e-3, momentum=0.1)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """`z` to 2 code - 1."""
        u = torch.sigmoid(self.normalization(z))
        return 2 * (u + (torch.round(u) - u).detach()) - 1


def _up(channels: int) -> list[nn.Module]:
    return [nn.Upsample(scale_factor=2), nn.Conv2d(channels, 32, 3, padding=1), nn.ReLU()]


def conv() -> nn.Module:
    """That of `model=image_conv`."""
    down = [nn.Conv2d(1, 32, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, padding=1), nn.ReLU(), nn.Flatten()]
    inner = [nn.Linear(3136, 256), nn.ReLU(), nn.Linear(256, 64), Rounding(), nn.Linear(64, 256), nn.ReLU()]
    bottom = [nn.Linear(256, 3136), nn.ReLU(), nn.Unflatten(1, (64, 7, 7))]
    return nn.Sequential(*down, *inner, *bottom, *_up(64), *_up(32), nn.Conv2d(32, 1, 3, padding=1), nn.Sigmoid())


def mlp() -> nn.Module:
    """That of `model=image_mlp`."""
    encoder = [nn.Flatten(), nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 64)]
    decoder = [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 784), nn.Sigmoid()]
    return nn.Sequential(*encoder, Rounding(), *decoder, nn.Unflatten(1, (1, 28, 28)))


def prepare(model: str, channels_last: bool = False, compiled: bool = False) -> tuple[int, Callable[[int], object]]:
    """The number of trainable parameters, and a function that makes so many training steps."""
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    network = {"image_conv": conv, "image_mlp": mlp}[model]()
    x = torch.rand(EXAMPLES, 1, 28, 28)
    if channels_last:
        network, x = network.to(memory_format=torch.channels_last), x.to(memory_format=torch.channels_last)
    kernels = [weight for weight in network.parameters() if weight.ndim > 1]
    others = [weight for weight in network.parameters() if weight.ndim == 1]
    groups = [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, eps=1e-7, fused=True)
    forward = torch.compile(network) if compiled else network
    numbers = itertools.count()

    def step(batch: torch.Tensor) -> torch.Tensor:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * next(numbers) / 2 / TOTAL_STEPS)) / 2
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(forward(batch), batch)
        loss.backward()
        optimizer.step()
        return loss.detach()

    def steps(count: int) -> float:
        order = torch.randperm(EXAMPLES)
        starts = itertools.islice(itertools.cycle(range(0, EXAMPLES - BATCH_SIZE + 1, BATCH_SIZE)), count)
        return sum(step(x[order[start : start + BATCH_SIZE]]) for start in starts).item()

    return sum(weight.numel() for weight in network.parameters()), steps
