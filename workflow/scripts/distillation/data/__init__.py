"""Prepared data: arrays, official archives, splits, and the data set that training reads."""
