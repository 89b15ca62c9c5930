"""What a preset may say, and the runs it becomes. Loads no torch."""
