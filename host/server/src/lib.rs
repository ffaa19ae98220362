//! The broker as a program: configuration, listeners, connections, plugin watcher, command line.
