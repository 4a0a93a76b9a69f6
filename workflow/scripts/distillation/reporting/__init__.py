"""Reports: results read back, intervals, comparisons, claims, figures and pages."""
