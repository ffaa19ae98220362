//! The topic exchange type.
