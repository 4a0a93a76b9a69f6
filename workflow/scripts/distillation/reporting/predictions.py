"""What a metric is on each image, from predictions.npz. Letter: N images."""

from pathlib import Path

import numpy as np

from distillation.data.arrays import read_arrays
from distillation.reporting.results import Results


def read_images(results: Results, files: list[str], name: str) -> dict[str, np.ndarray]:
    """Return of each run, as messages name it, the metric of each image (N,), where there is one.

    Raises:
        FileNotFoundError, ValueError: see `read_arrays`.
        ValueError: predictions aren't those that the metrics were computed from, the images of two
            models differ, or a value is missing.
    """
    found = {}
    first = None
    for run, file in zip(results.runs, files, strict=True):
        arrays = read_arrays(Path(file), ("labels", "predictions"))
        labels, expected = arrays["labels"], np.array(run.metrics["confusion_matrix"])
        if confusion(labels, arrays["predictions"], len(expected)) != expected.tolist():
            raise ValueError(
                f"{file}: aren't the predictions of {run}; its metrics.json has another confusion "
                f"matrix"
            )
        first = labels if first is None else first
        if not np.array_equal(labels, first):
            raise ValueError(f"{file}: predictions of other images than {files[0]}")
        if name in arrays:
            found[str(run)] = arrays[name].astype(float)
            if arrays[name].shape != labels.shape or not np.isfinite(found[str(run)]).all():
                raise ValueError(f"{file}: {name} isn't one finite number for each image")
    return found


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> list[list[int]] | None:
    """Count images by label and prediction; None where these aren't two lists of classes."""
    for array in (labels, predictions):
        whole = array.ndim == 1 and array.dtype.kind in "iu" and array.size
        if not whole or array.shape != labels.shape or array.min() < 0 or array.max() >= classes:
            return None
    counts = np.bincount(labels * classes + predictions, minlength=classes**2)
    return counts.reshape(classes, classes).tolist()
