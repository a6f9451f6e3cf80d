"""How sure a score is: bootstrap, confidence intervals, comparisons, ties."""
