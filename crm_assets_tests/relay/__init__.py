"""Tests of the relay process."""
