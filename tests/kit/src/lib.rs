//! Starts the built broker and the foreign clients for the integration tests.
