"""What the measures of attention maps are called, what they are, and what difference matters."""

from distillation.settings.reports import SmallestDifferences

# Others go by their own name, without underscores.
NAMES = {
    "gini": "Gini",
    "image_dependence": "image-dependence",
    "border": "border ratio",
    "border_constant": "border ratio, constant input",
    "border_noise": "border ratio, noise",
    **{f"border_{side}": side for side in ("top", "bottom", "left", "right")},
    "object_energy": "object's energy ratio",
    **{
        f"{measure}_{control}": words
        for measure in ("object_energy", "pointing_game", "object_iou")
        for control, words in (("centre", "fixed centre"), ("other", "other images' masks"))
    },
    "object_iou": "IoU",
    **dict.fromkeys(("pointing_game_chance", "object_iou_chance"), "chance"),
    "sobel_spearman": "Sobel correlation",
    "teacher_cosine": "cosine with the teacher",
    "teacher_cosine_shuffled": "cosine, shuffled",
    "teacher_spearman": "Spearman with the teacher",
    "teacher_spearman_shuffled": "Spearman, shuffled",
}
for curve in ("deletion", "insertion"):
    NAMES |= {
        curve: f"{curve} by the map",
        f"{curve}_minus_random": f"{curve}, map minus random",
        f"{curve}_random": "random",
        f"{curve}_centre": "centre first",
        f"{curve}_sobel": "Sobel",
        f"{curve}_grad_cam": "Grad-CAM",
    }
    # Of other fills than the first.
    for fill in ("background", "mean", "blur"):
        NAMES |= {
            f"{curve}_{fill}": f"{curve} by the map, filled with {fill}",
            f"{curve}_{fill}_minus_random": f"{curve}, map minus random, filled with {fill}",
        }

# Of those that aren't explained by another one.
MEANINGS = {
    "effective_area": "share of the map's cells over which attention is spread, exp(entropy) / "
    "cells; from 1 / cells (one cell has all) to 1 (even)",
    "entropy": "entropy of the map, summing to 1, over log(cells); 0 (one cell) to 1 (even)",
    "gini": "Gini coefficient over the cells; 0 (even) to almost 1 (one cell)",
    "peak_over_mean": "largest over mean value of the map; 1 (even) to cells (one cell)",
    "image_dependence": "1 - squared length of the mean map, each map being scaled to length 1; 0 "
    "(one map for all images) to 1",
    "border": "share of the map that lies in its outermost ring of cells (or in one side of it), "
    "over that ring's share of the area; 0 to area / ring, 1 in an even map",
    "object_energy": "share of the map that lies in the object's mask, over the mask's share of "
    "the area; from 0, 1 in an even map; fixed centre is a Gaussian at the centre, of a quarter of "
    "the side, in the map's place; other images' masks are beside the same map",
    "pointing_game": "share of the mask in the cell of the map's largest value, not enlarged; 0 to "
    "1; chance is that of a random cell",
    "object_iou": "intersection over union of the mask and as many of the map's largest values as "
    "the mask has pixels; 0 to 1; chance is that of random pixels",
    "sobel_spearman": "rank correlation (Spearman) of the map with the image's Sobel magnitude; -1 "
    "to 1",
    "deletion": "mean probability of the predicted class while cells are filled, those first that "
    "the map marks most; 0 to 1, lower if the map finds what counts; random is the mean of several "
    "random orders",
    "insertion": "the same while cells are put in; higher if it finds what counts",
    "deletion_minus_random": "deletion by the map minus deletion in a random order, image by "
    "image; -1 to 1, below 0 if the map finds what counts",
    "insertion_minus_random": "the same of insertion; above 0 if it finds what counts",
    "teacher_cosine": "cosine of the student's map and the teacher's of the same image; 0 to 1; "
    "shuffled: of another image",
    "teacher_spearman": "the same with ranks; -1 to 1",
}


def margin_of(measure: str, least: SmallestDifferences) -> float:
    """Return the smallest difference of interest of a measure that is judged."""
    return next(value for name, value in least if measure.startswith(name))


def margin_words(least: SmallestDifferences) -> list[str]:
    """Return of each measure that is judged the smallest difference of interest, and why."""
    words = []
    for name, field in SmallestDifferences.model_fields.items():
        value = getattr(least, name)
        own = f"chosen in place of {field.default:g}"
        reason = field.description if value == field.default else own
        words.append(f"{name_of(name)}: {value:g}, {reason}.")
    return words


def name_of(measure: str) -> str:
    """Return what a measure is called."""
    return NAMES.get(measure, measure.replace("_", " "))
