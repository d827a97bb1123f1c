"""What estimators with labels at every step can do beside fit and predict."""
