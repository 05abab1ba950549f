"""The suite, in the same rooms as the package."""
