"""The known failures of systems like this one, each as a test named by its number; and what no list can name."""
