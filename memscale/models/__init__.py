"""The models as torch modules, one idea a file.

The attribute `slot` of a block, and with it `slot` in the names of parameters, is its feed-forward sublayer: dense,
experts, memory or PEER. A parameter's name is part of the seed of its initial values and of checkpoints, so it stays.
A slot in all other places is a row of a memory table.
"""
