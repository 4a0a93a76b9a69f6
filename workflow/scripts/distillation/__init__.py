"""Knowledge distillation and attention transfer between wide residual networks."""
