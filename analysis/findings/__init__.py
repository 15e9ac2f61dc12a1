"""The page docs/findings.md: every number, figure and sentence from the results tables in docs/findings/."""
