"""Programs to run from the repository, and the modules and data that ``configs/`` names."""
