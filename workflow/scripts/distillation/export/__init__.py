"""Networks that leave the project: as programs, and with a model card."""
