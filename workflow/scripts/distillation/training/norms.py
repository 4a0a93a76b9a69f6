"""Batch norm of a network without training: statistics of the images that it would see."""

import math

import torch
from torch import nn

from distillation.data.dataset import Dataset, normalise
from distillation.networks import Network

# Images of a batch, as in training.
BATCH = 128
# Images that are enough for statistics of 3 %, where nothing else is said.
IMAGES = 1024


def estimate_norms(model: Network, dataset: Dataset, seed: int, images: int = IMAGES) -> None:
    """Set the statistics of batch norm to means over batches of random training images.

    A fresh batch norm passes activations on as they are, which no network that runs on data does.

    Args:
        model: on any device; it ends in evaluation mode.
        dataset: what the network would be trained on.
        seed: of which images.
        images: at most so many.
    """
    device = next(model.parameters()).device
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            # Of weights that were read, the count of batches would go on.
            module.reset_running_stats()
            # torch's notation for the mean over all batches.
            module.momentum = None
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(dataset.train.labels), generator=generator)[:images]
    model.train()
    with torch.no_grad():
        # Of nearly the same size, since each counts the same.
        for batch in order.tensor_split(math.ceil(len(order) / BATCH)):
            seen = dataset.train.images[batch.to(dataset.train.images.device)].to(device)
            model(normalise(seen, dataset.mean, dataset.std))
    model.eval()
