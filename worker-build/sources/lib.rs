//! Holds no code: the package exists for its lock file.
