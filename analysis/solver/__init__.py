"""The optimum of a law on data: objectives, starting points, damped Newton steps."""
