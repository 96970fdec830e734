//! Double barrier: all enter together, all leave together.
