"""What is traded for speed, and what is known of the machine at hand."""
