//! Plan-once tensor core.
