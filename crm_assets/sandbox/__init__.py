"""Local servers that speak the vendors' wire protocols: for the demo, the tests and the benchmarks."""
