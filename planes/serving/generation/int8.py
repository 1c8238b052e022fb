"""Weights of a network in 8 bits: half the memory of bf16, and half of what each token reads.

Each row of a weight is rounded to 255 steps of its own (symmetric, per output channel); activations
stay as they are. The table of tokens and the last layer keep their precision.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Int8Linear(nn.Module):  # type: ignore[misc]  # an extra
    """A linear layer with weights in 8 bits."""

    def __init__(self, linear: nn.Linear) -> None:
        """Round the weights of `linear`."""
        super().__init__()
        weight = linear.weight.detach().float()
        scales = weight.abs().amax(dim=1).clamp(min=1e-12) / 127
        rounded = (weight / scales[:, None]).round().to(torch.int8)
        self.register_buffer("weight", rounded)
        self.register_buffer("scales", scales.to(linear.weight.dtype))
        self.bias = linear.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Return the layer's output for `inputs`, whose last dimension is the layer's width."""
        weight, scales = self.get_buffer("weight"), self.get_buffer("scales")
        if inputs.device.type == "cpu":  # reads the 8 bits themselves; the other way unpacks first
            rows = inputs.reshape(-1, inputs.shape[-1])
            outputs = torch._weight_int8pack_mm(rows, weight, scales)
            outputs = outputs.reshape(*inputs.shape[:-1], -1)
        else:
            outputs = functional.linear(inputs, weight.to(inputs.dtype)) * scales
        return outputs if self.bias is None else outputs + self.bias


def quantize(network: nn.Module, *, skip: str = "lm_head") -> Any:
    """Replace every linear layer of `network` but `skip`, one by one, and return it."""
    for name, child in network.named_children():
        if isinstance(child, nn.Linear) and name != skip:
            setattr(network, name, Int8Linear(child))
        else:
            quantize(child, skip=skip)
    return network
