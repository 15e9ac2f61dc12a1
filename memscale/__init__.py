"""memscale: at equal compute and parameters, do dense layers, experts or memory layers win, and how does it scale?"""

__version__ = "0.1.0"
