//! The suites that every Log, Bus and Link must pass: a port comes with its tests.
