"""From compute to a task: a law of the loss, a link from the loss to the metric, and the errors of both."""
