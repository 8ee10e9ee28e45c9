"""The ways in: settings, the container, the library API, the CLI, the training helper, the testing kit."""
