"""What a page shows: tables and figures, made from results."""
