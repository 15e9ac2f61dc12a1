"""The hot path of memory and PEER layers: slot selection, two ops on table rows, and the row optimizer."""
