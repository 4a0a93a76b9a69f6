"""Formats of images: one file each.

A file has a class `Settings(FormatSettings)`, and `read(settings, folder, threads)`, which returns
the arrays of both splits: train_images and test_images, uint8 (N, S, S, C), train_labels and
test_labels, int64 (N,), class_names (K,), and where there are masks of the objects train_masks and
test_masks, bool (N, S, S). `folder` is room for temporary files; `threads` is how many processes
may read.
"""
