"""Reports of studies (report.py), their check without training (check.py), figures, and exports for other tools."""
