"""The demo: a small fleet of simulated process-heat agents goes through its life in minutes."""
