"""What one family of models gains over another, on any table, as a function of scale."""
