"""A step as CUDA graphs: launched as a whole, so that the card doesn't wait for Python."""

import torch

from distillation.training.step import Together

# Runs before a capture, in which libraries choose their kernels and allocate what they keep.
WARM_UP = 3


class Captured:
    """Graphs of a step, one for each size of batch, captured when it is first asked for.

    A replay does what the step does, on the same state and with the same kernels. Before a capture
    the step is run eagerly three times, after which the state is put back.
    """

    def __init__(self, together: Together) -> None:
        self.together = together
        self.graphs: dict[int, torch.cuda.CUDAGraph] = {}

    def __call__(self, size: int) -> None:
        """Train on the next `size` images of the epoch."""
        if size not in self.graphs:
            self.graphs[size] = self.capture(size)
        self.graphs[size].replay()

    def capture(self, size: int) -> torch.cuda.CUDAGraph:
        """Return the graph of a step of `size` images, leaving the state as it was."""
        state = self.together.state()
        before = {name: tensor.clone() for name, tensor in state.items()}
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                # The last batch of an epoch has no images after it.
                self.together.feed.counter.copy_(before["0.counter"])
                self.together(size)
        torch.cuda.current_stream().wait_stream(stream)
        # Gradients are to be allocated in the graph's own memory.
        self.forget_gradients()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.together(size)
        self.forget_gradients()
        for name, tensor in state.items():
            tensor.copy_(before[name])
        return graph

    def forget_gradients(self) -> None:
        """Drop the gradients of all students."""
        for step in self.together.steps:
            step.optimizer.zero_grad(set_to_none=True)
