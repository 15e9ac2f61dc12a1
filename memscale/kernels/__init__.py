"""The hot path of memory and PEER layers: the selection of slots, and two ops on table rows, each with back ends."""
