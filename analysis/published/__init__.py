"""Published fits made again from their data, and published tables compared: what was reported beside what is found."""
