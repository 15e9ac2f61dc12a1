"""How far a fit is to be trusted: held-out errors, laws ranked by them, and how the answer moves with each choice."""
